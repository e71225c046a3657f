"""Sessions of others and their ends, files, refusals with a time to wait, phones and themes."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, expect

from tests.page.conftest import KEYS, OpenNotebook
from tests.page.driver import Notebook
from tests.support.api import Api
from tests.support.process import Service
from tests.support.session import Session, new_session

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def agents(keyed: Service, api: Api) -> Iterator[Session]:
    """A session that somebody else works in, with the same key."""
    with new_session(keyed, api=api) as session:
        yield session


def test_an_agents_session_can_be_looked_at(open_notebook: OpenNotebook, agents: Session) -> None:
    """It is in the list; its cells are shown with what came of them, and so is what it runs from then on."""
    agents.run("print('by the agent')\nopen('made.txt', 'w').write('x')")
    agents.run("1/0")
    with open_notebook() as notebook:
        row = notebook.page.locator("#sessions").get_by_role("button", name=agents.id[:8]).first
        row.click()
        expect(notebook.cells.first.locator(".outputs")).to_contain_text("by the agent")
        assert "ZeroDivisionError" in notebook.output(notebook.cells.nth(1))
        expect(notebook.page.locator("#files .name")).to_have_text(["made.txt"])
        assert notebook.session_id == agents.id
        agents.detach("import time; time.sleep(5); print('later')")
        cell = notebook.cells.filter(has_text="later").first
        expect(cell).to_have_attribute("data-state", "running")
        expect(cell).to_have_attribute("data-state", "done")
        assert "later" in notebook.output(cell)
        assert "x" in notebook.output(notebook.run("open('made.txt').read()"))
        assert not notebook.problems


def test_what_others_run_while_a_cell_waits_is_shown_afterwards(
    open_notebook: OpenNotebook, agents: Session
) -> None:
    """The cell of the page comes after theirs in the kernel, and does not hide it."""
    with open_notebook(session=agents.id) as notebook:
        agents.detach("import time\ntime.sleep(1.5)\nprint('by the agent')", timeout_ms=10_000)
        mine = notebook.run("print('by the page')")
        assert "by the page" in notebook.output(mine)
        expect(notebook.page.locator("#cells")).to_contain_text("by the agent", timeout=15_000)
        assert len([code for code in notebook.codes() if "print('by the" in code]) == 2


def test_a_restart_by_others_is_said(open_notebook: OpenNotebook, agents: Session) -> None:
    """Nobody goes on with variables that are gone; beside what is said all files can be seen."""
    with open_notebook(session=agents.id) as notebook:
        notebook.run("gone = 1")
        agents.restart()
        expect(notebook.notices).to_contain_text("its variables are gone")
        notice = notebook.notices.bounding_box()
        panel = notebook.page.locator("#panel").bounding_box()
        assert notice is not None
        assert panel is not None
        assert panel["y"] >= notice["y"] + notice["height"] - 1
        assert panel["y"] + panel["height"] <= notebook.evaluate("innerHeight") + 1
        assert "NameError" in notebook.output(notebook.run("gone", state="failed"))


def test_a_session_lives_on_while_the_page_is_used(
    open_notebook: OpenNotebook, keyed: Service, api: Api
) -> None:
    """Its end is put off; the time left is shown."""
    with (
        new_session(keyed, api=api, ttl_seconds=60) as session,
        open_notebook(session=session.id) as notebook,
    ):
        expect(notebook.page.locator("#session-left")).to_contain_text("left")
        deadline = time.monotonic() + 20
        while session.describe()["expires_at"] < time.time() + 600:
            assert time.monotonic() < deadline
            time.sleep(0.3)
        expect(notebook.page.locator("#session-left")).to_have_text("15 min left")


def test_a_session_that_ended_says_so_and_another_begins(
    open_notebook: OpenNotebook, keyed: Service, api: Api
) -> None:
    """Expired: its cells can still be read. Ended by others: that is seen, and all can be run anew."""
    with new_session(keyed, api=api, ttl_seconds=2) as session:
        session.run("print('before its end')")
        time.sleep(2.2)
        with open_notebook(session=session.id) as notebook:
            expect(notebook.notices).to_contain_text("has run out of its time")
            expect(notebook.cells.first.locator(".outputs")).to_contain_text("before its end")
            notebook.run("x = 5")
            assert notebook.session_id not in ("", session.id)
            api.http.delete(f"/v1/sessions/{notebook.session_id}")
            expect(notebook.notices).to_contain_text("This session was ended")
            notebook.button("Start anew and run all").click()
            notebook.wait_for(notebook.cells.nth(1), "done")
            assert "5" in notebook.output(notebook.run("x"))
            notebook.button(f"End session {notebook.session_id[:8]}").click()
            notebook.button("End it").click()
            expect(notebook.notices).to_contain_text("The session has ended")
            assert notebook.session_id == ""


def test_a_refusal_for_now_is_counted_down(open_notebook: OpenNotebook, keyed: Service) -> None:
    """Too many sessions: what is wrong, the time until the next try; trying at once, and giving up."""
    bob = Api(keyed.base_url, KEYS["bob"])
    held = [bob.http.post("/v1/sessions", json={}).json()["session_id"] for _ in range(6)]
    with open_notebook(key=KEYS["bob"]) as notebook:
        cell = notebook.begin("print('at last')")
        expect(notebook.notices).to_contain_text("sessions are open")
        expect(notebook.notices).to_contain_text("Tries again in")
        notebook.button("Give up").click()
        notebook.wait_for(cell, "failed")
        notebook.page.keyboard.press("Control+Enter")
        expect(notebook.notices).to_contain_text("Tries again in")
        bob.http.delete(f"/v1/sessions/{held[0]}")
        notebook.button("Try now").click()
        notebook.wait_for(cell, "done")
        assert "at last" in notebook.output(cell)
    for session_id in held:
        bob.http.delete(f"/v1/sessions/{session_id}")
    bob.close()


def test_a_service_that_is_gone_is_said(open_notebook: OpenNotebook) -> None:
    """A cell is not run while there is no connection; one that breaks meanwhile loses nothing of a cell."""
    with open_notebook() as notebook:
        cell = notebook.run("print('there')")
        notebook.page.context.set_offline(True)
        cell = notebook.run("print('gone')", state="failed")
        assert "does not answer" in notebook.output(cell)
        notebook.page.context.set_offline(False)
        notebook.page.keyboard.press("Control+Enter")
        notebook.wait_for(cell, "done")
        assert "gone" in notebook.output(cell)
        cell = notebook.begin("import time\nprint('begun')\ntime.sleep(3)\nprint('ended')")
        expect(cell.locator(".outputs")).to_contain_text("begun")
        notebook.page.context.set_offline(True)
        notebook.page.wait_for_timeout(1000)
        notebook.page.context.set_offline(False)
        notebook.wait_for(cell, "done")
        assert notebook.output(cell).split() == ["begun", "ended"]


def test_files_go_in_and_out(notebook: Notebook, tmp_path: Path) -> None:
    """Chosen, dropped, listed, looked at, downloaded, deleted; one that is too large is refused."""
    page = notebook.page
    page.locator("#chooser").set_input_files(
        [
            FilePayload(name="chosen é.csv", mimeType="text/csv", buffer=b"a,b\n1,2\n"),
            FilePayload(name="large.bin", mimeType="application/octet-stream", buffer=bytes(1_100_000)),
        ]
    )
    expect(page.locator("#uploads")).to_contain_text("larger than")
    notebook.button("Dismiss").first.click()
    drop = """() => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File(['dropped'], 'dropped.txt'));
        for (const type of ['dragenter', 'dragover', 'drop']) {
            const event = new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true });
            document.body.dispatchEvent(event);
        }
    }"""
    notebook.evaluate(drop)
    expect(page.locator("#files")).to_contain_text("dropped.txt")
    expect(page.locator("#files")).to_contain_text("chosen é.csv8 B")
    assert "dropped a,b" in notebook.output(
        notebook.run("print(open('dropped.txt').read(), open('chosen é.csv').read())")
    )
    page.locator("#files .file", has_text="chosen é.csv").click()
    expect(page.locator("#preview-content")).to_contain_text("1,2")
    page.keyboard.press("Escape")
    notebook.run(
        "import zlib, struct\n"
        "def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + "
        "struct.pack('>I', zlib.crc32(kind + data))\n"
        "png = b'\\x89PNG\\r\\n\\x1a\\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 3, 2, 8, 0, 0, 0, 0)) + "
        "chunk(b'IDAT', zlib.compress(b'\\0abc' * 2)) + chunk(b'IEND', b'')\n"
        "size = open('dot.png', 'wb').write(png)"
    )
    page.locator("#files .file", has_text="dot.png").click()
    assert (
        page.locator("#preview-content img").evaluate("image => image.decode().then(() => image.width)") == 3
    )
    page.keyboard.press("Escape")
    with page.expect_download() as downloading:
        notebook.button("Download dropped.txt").click()
    assert Path(downloading.value.path()).read_bytes() == b"dropped"
    notebook.button("Delete dropped.txt").click()
    expect(page.locator("#files")).not_to_contain_text("dropped.txt")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_has_room_for_all_of_it(open_notebook: OpenNotebook, scheme: str) -> None:
    """At 360 pixels nothing is cut off, all is as large as a fingertip, and a tap runs a cell."""
    options = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with open_notebook(**options, color_scheme=scheme) as notebook:
        page = notebook.page
        page.get_by_role("button", name="A table").tap()
        page.get_by_role("toolbar", name="Notebook").get_by_role("button").first.tap()
        notebook.wait_for(notebook.cells.first, "done")
        notebook.run("print('w' * 500)")
        frame = notebook.frame(notebook.cells.first)
        frame.wait_for_function(f"getComputedStyle(document.documentElement).colorScheme === '{scheme}'")
        page.get_by_role("button", name="Files and sessions").last.tap()
        expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
        small = _small(notebook)
        page.get_by_role("button", name="Close", exact=True).tap()
        small += _small(notebook)
        assert small == []
        assert notebook.evaluate("document.documentElement.scrollWidth") == 360
        assert not notebook.problems


def _small(notebook: Notebook) -> list[str]:
    """Buttons and fields that can be seen and are smaller than 44 pixels, by their names."""
    found = notebook.page.locator("button:visible, input:visible").evaluate_all(
        "all => all.filter(one => one.isConnected)"
        ".map(one => [one.ariaLabel || one.innerText, one.offsetWidth, one.offsetHeight])"
    )
    return [name for name, width, height in found if width < 44 or height < 44]


def test_the_theme_is_turned_and_kept(open_notebook: OpenNotebook) -> None:
    """From the system's to light to dark, past a reload; every button has a name."""
    with open_notebook() as notebook:
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        light = notebook.evaluate(ground)
        notebook.button("Theme: the system's").click()
        notebook.button("Theme: light").click()
        dark = notebook.evaluate(ground)
        assert light != dark
        notebook.reload()
        assert notebook.evaluate(ground) == dark
        unnamed = notebook.page.locator("button:not([aria-label], #confirm-do)")
        assert all(text.strip() for text in unnamed.all_text_contents())
