"""Sessions of other clients, ends of sessions, files, temporary refusals, phones and themes."""

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
    """Open a session that another client uses, with the same key."""
    with new_session(keyed, api=api) as session:
        yield session


def test_page_shows_the_session_of_another_client(open_notebook: OpenNotebook, agents: Session) -> None:
    """The session is in the list. Its earlier and its later cells are shown with their outputs."""
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


def test_cell_of_another_client_is_shown_after_a_waiting_cell(
    open_notebook: OpenNotebook, agents: Session
) -> None:
    """The page's cell waits for the other client's cell. Afterwards the page shows both."""
    with open_notebook(session=agents.id) as notebook:
        agents.detach("import time\ntime.sleep(1.5)\nprint('by the agent')", timeout_ms=10_000)
        cell = notebook.run("print('by the page')")
        assert "by the page" in notebook.output(cell)
        expect(notebook.page.locator("#cells")).to_contain_text("by the agent", timeout=15_000)
        assert len([code for code in notebook.codes() if "print('by the" in code]) == 2


def test_restart_by_another_client_shows_a_notice(open_notebook: OpenNotebook, agents: Session) -> None:
    """The notice says that the variables are gone. It does not cover the panel of files."""
    with open_notebook(session=agents.id) as notebook:
        notebook.run("gone = 1")
        agents.restart()
        expect(notebook.notices).to_contain_text("Its variables are gone")
        notice = notebook.notices.bounding_box()
        panel = notebook.page.locator("#panel").bounding_box()
        assert notice is not None
        assert panel is not None
        assert panel["y"] >= notice["y"] + notice["height"] - 1
        assert panel["y"] + panel["height"] <= notebook.evaluate("innerHeight") + 1
        assert "NameError" in notebook.output(notebook.run("gone", state="failed"))


def test_session_is_extended_while_the_page_is_used(
    open_notebook: OpenNotebook, keyed: Service, api: Api
) -> None:
    """The page extends the session's time, and shows the time left."""
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


def test_ended_session_shows_a_notice_and_the_next_cell_starts_another(
    open_notebook: OpenNotebook, keyed: Service, api: Api
) -> None:
    """Cells of an expired session stay visible. After another client ends one, all cells can run again."""
    with new_session(keyed, api=api, ttl_seconds=2) as session:
        session.run("print('before its end')")
        time.sleep(2.2)
        with open_notebook(session=session.id) as notebook:
            expect(notebook.notices).to_contain_text("This session has expired")
            expect(notebook.cells.first.locator(".outputs")).to_contain_text("before its end")
            notebook.run("x = 5")
            assert notebook.session_id not in ("", session.id)
            api.http.delete(f"/v1/sessions/{notebook.session_id}")
            expect(notebook.notices).to_contain_text("This session was ended")
            notebook.button("Start a new session and run all").click()
            notebook.wait_for(notebook.cells.nth(1), "done")
            assert "5" in notebook.output(notebook.run("x"))
            notebook.button(f"End session {notebook.session_id[:8]}").click()
            notebook.button("End it").click()
            expect(notebook.notices).to_contain_text("The session has ended")
            assert notebook.session_id == ""


def test_temporary_refusal_shows_a_countdown(open_notebook: OpenNotebook, keyed: Service) -> None:
    """A notice names the reason and the time to wait. The user can try now or give up."""
    bob = Api(keyed.base_url, KEYS["bob"])
    held = [bob.http.post("/v1/sessions", json={}).json()["session_id"] for _ in range(6)]
    with open_notebook(key=KEYS["bob"]) as notebook:
        cell = notebook.begin("print('at last')")
        expect(notebook.notices).to_contain_text("sessions are open")
        expect(notebook.notices).to_contain_text("Trying again in")
        notebook.button("Give up").click()
        notebook.wait_for(cell, "failed")
        notebook.page.keyboard.press("Control+Enter")
        expect(notebook.notices).to_contain_text("Trying again in")
        bob.http.delete(f"/v1/sessions/{held[0]}")
        notebook.button("Try now").click()
        notebook.wait_for(cell, "done")
        assert "at last" in notebook.output(cell)
    for session_id in held:
        bob.http.delete(f"/v1/sessions/{session_id}")
    bob.close()


def test_unreachable_service_fails_a_cell_with_a_message(open_notebook: OpenNotebook) -> None:
    """Without a connection a cell is not run. A connection lost during a cell loses none of its output."""
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


def test_files_are_uploaded_previewed_downloaded_and_deleted(notebook: Notebook, tmp_path: Path) -> None:
    """Files can be chosen or dropped. A file that is too large is refused."""
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
def test_page_fits_on_a_phone(open_notebook: OpenNotebook, scheme: str) -> None:
    """At a width of 360 pixels nothing overflows, buttons are at least 44 pixels, and a tap runs a cell."""
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
        small_targets = _small_targets(notebook)
        page.get_by_role("button", name="Close", exact=True).tap()
        small_targets += _small_targets(notebook)
        assert small_targets == []
        assert notebook.evaluate("document.documentElement.scrollWidth") == 360
        assert not notebook.problems


def _small_targets(notebook: Notebook) -> list[str]:
    """Return the names of visible buttons and fields that are smaller than 44 pixels."""
    found = notebook.page.locator("button:visible, input:visible").evaluate_all(
        "all => all.filter(one => one.isConnected)"
        ".map(one => [one.ariaLabel || one.innerText, one.offsetWidth, one.offsetHeight])"
    )
    return [name for name, width, height in found if width < 44 or height < 44]


def test_theme_can_be_switched_and_is_kept(open_notebook: OpenNotebook) -> None:
    """The theme changes from system to light to dark, and survives a reload. Every button has a name."""
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
