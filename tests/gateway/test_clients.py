"""Real clients: nbclient, jupyter_server's gateway client, and JupyterLab in a browser."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as NotThere
from websockets.sync.client import connect

from tests.gateway.channels import Channels
from tests.gateway.real_clients import Cable, Lab, jupyter_lab, notebook, run_notebook
from tests.support.keys import KeyedService
from tests.support.process import ROOT, Service
from tests.support.session import Session, new_session

SCREENSHOTS = ROOT / ".cache" / "screenshots"
PATIENCE_MS = 60_000

pytestmark = pytest.mark.timeout(300)


# --- nbclient -----------------------------------------------------------------------------------------


def outputs(path: Path) -> list[list[nbformat.NotebookNode]]:
    """Return the outputs of each cell of a notebook that was run. The notebook must be valid.

    Adjacent pieces of text are joined, as text may be cut into any number of messages.
    """
    ran = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(ran)
    return [_with_joined_text(cell.outputs) for cell in ran.cells]


def _with_joined_text(found: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    joined: list[nbformat.NotebookNode] = []
    for output in found:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def test_nbclient_runs_a_notebook(service: Service, tmp_path: Path) -> None:
    """Text, plot and value are in order, and each output is there once."""
    path = tmp_path / "plain.ipynb"
    notebook(
        path,
        "import matplotlib.pyplot as plt\nprint('before')\nplt.plot([1, 2])\nplt.show()\nprint('after')",
        "import pandas as pd\npd.DataFrame({'n': [6]}) * 7",
    )
    ended = run_notebook(path, service.base_url)
    assert ended.returncode == 0, ended.stderr
    plot, table = outputs(path)
    assert [output.output_type for output in plot] == ["stream", "display_data", "stream"]
    assert (plot[0].text, plot[2].text) == ("before\n", "after\n")
    assert "image/png" in plot[1].data
    assert [output.output_type for output in table] == ["execute_result"]
    assert "<td>42</td>" in table[0].data["text/html"]


def test_nbclient_uses_an_agents_session_and_stops_at_an_error(guarded: KeyedService, tmp_path: Path) -> None:
    """The notebook uses a key and an agent's session, and has the traceback of the error."""
    api = guarded.api("nbclient")
    with new_session(guarded.service, api) as session:
        session.run("table = [1, 2, 3]", timeout_ms=1000)
        path = tmp_path / "agent.ipynb"
        notebook(path, "sum(table)", "1 / 0", "print('never')", kernel=f"session-{session.id}")
        ended = run_notebook(path, guarded.service.base_url, guarded.key("nbclient"))
        assert "ZeroDivisionError" in ended.stderr
        total, failed, never = outputs(path)
        assert total[0].data["text/plain"] == "6"
        assert failed[0].ename == "ZeroDivisionError"
        assert never == []


# --- jupyter_server and JupyterLab --------------------------------------------------------------------


@pytest.fixture(scope="module")
def cable(service: Service) -> Iterator[Cable]:
    """The connection from JupyterLab to the service, which a test can cut."""
    port = urlsplit(service.base_url).port
    assert port is not None
    cable = Cable(port)
    yield cable
    cable.close()


@pytest.fixture(scope="module")
def lab(cable: Cable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab that uses the service as its gateway."""
    with jupyter_lab(cable.url, "any", tmp_path_factory.mktemp("lab")) as running:
        yield running


def test_jupyter_server_forwards_all_calls(lab: Lab, cable: Cable, service: Service) -> None:
    """REST calls and the WebSocket work as for a browser. A cell survives a broken connection."""
    assert "python3" in lab.http.get("/api/kernelspecs").json()["kernelspecs"]
    kernel_id = lab.http.post("/api/kernels", json={"name": "python3"}).json()["id"]
    assert kernel_id in [kernel["id"] for kernel in service.api.http.get("/api/kernels").json()]
    url = f"{lab.url.replace('http', 'ws', 1)}/api/kernels/{kernel_id}/channels?session_id=browser"
    with connect(url, proxy=None) as socket:
        channels = Channels(socket, "browser")
        assert channels.ask("kernel_info")["language_info"]["name"] == "python"
        assert channels.run("input('Who? ')", answer="Ada").data() == {"text/plain": "'Ada'"}
        assert channels.ask("complete", code="impor", cursor_pos=5)["matches"]
        request = channels.begin("import time\nprint('first')\ntime.sleep(3)\nprint('second')\n'end'")
        channels.until_kind("stream")
        cable.cut()
        outcome = channels.outcome(request)
        assert outcome.text.endswith("second\n")
        assert outcome.data() == {"text/plain": "'end'"}
        request = channels.begin("kept = 1\nwhile True: time.sleep(0.1)")
        channels.until_kind("execute_input")
        assert lab.http.post(f"/api/kernels/{kernel_id}/interrupt").status_code == 204
        assert channels.outcome(request).reply["content"]["ename"] == "KeyboardInterrupt"
        assert lab.http.post(f"/api/kernels/{kernel_id}/restart").status_code == 200
        assert channels.run("'kept' in globals()").data() == {"text/plain": "False"}
        # A binary frame would close its WebSocket.
        channels.run("from comm import create_comm\ncreate_comm(target_name='t', buffers=[b'\\xff' * 300])")
        assert channels.run("'on'").data() == {"text/plain": "'on'"}
    assert lab.http.get(f"/api/kernels/{kernel_id}").json()["execution_state"] == "idle"
    assert lab.http.delete(f"/api/kernels/{kernel_id}").status_code == 204
    assert service.api.http.get(f"/api/kernels/{kernel_id}").status_code == 404


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium without a window. It can reach only this machine."""
    path = shutil.which("chromium")
    assert path, "these tests need Chromium: run scripts/setup-chromium"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
        chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page. A screenshot is saved after the test."""
    page = browser.new_page(viewport={"width": 1280, "height": 960})
    page.set_default_timeout(PATIENCE_MS)
    # Chromium aborts loading when a network interface appears or disappears, as with each container.
    theme = page.locator("dialog.jp-Dialog", has_text="Error Loading Theme")
    page.add_locator_handler(theme, lambda dialog: dialog.get_by_role("button").last.click())
    yield page
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{request.node.name}.png")
    page.close()


class Notebook:
    """A notebook that is open in JupyterLab."""

    def __init__(self, page: Page, lab: Lab, name: str) -> None:
        self.page = page
        self._open(f"{lab.url}/lab/tree/{name}?reset")
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not (kernels := [session["kernel"] for session in lab.sessions() if session["path"] == name]):
            assert time.monotonic() < deadline, "the notebook has no kernel"
            time.sleep(0.1)
        self.kernel_id: str = kernels[0]["id"]
        # At its start JupyterLab connects twice, and drops requests that were sent in between.
        page.wait_for_load_state("networkidle")
        self.idle()

    def _open(self, url: str, attempts: int = 4) -> None:
        """Load the page, again if its toolbar is missing.

        Chromium drops requests while a network comes or goes. JupyterLab shows no toolbar when its request
        for the settings was among them.
        """
        for attempt in range(attempts):
            self.page.goto(url)
            self.page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
            try:
                self.page.locator(".jp-Notebook-ExecutionIndicator").wait_for(timeout=PATIENCE_MS / 4)
            except NotThere:
                if attempt == attempts - 1:
                    raise
            else:
                return

    def idle(self) -> None:
        """Wait until the kernel is idle."""
        indicator = self.page.locator(".jp-Notebook-ExecutionIndicator")
        expect(indicator).to_have_attribute("data-status", "idle", timeout=PATIENCE_MS)

    def run(self, number: int) -> None:
        """Run a cell, as with Shift-Enter."""
        self.page.locator(".jp-CodeCell .cm-content").nth(number).click()
        self.page.keyboard.press("Shift+Enter")

    def shows(self, number: int, text: str) -> None:
        """Wait until the outputs of a cell contain that text."""
        area = self.page.locator(".jp-CodeCell").nth(number).locator(".jp-OutputArea").first
        expect(area).to_contain_text(text, timeout=PATIENCE_MS)


def test_jupyterlab_runs_a_notebook(lab: Lab, page: Page, service: Service) -> None:
    """Plot, input, interrupt and completion work. The cells are in the session's history."""
    notebook(
        lab.folder / "sandbox.ipynb",
        "import matplotlib.pyplot as plt\n"
        "print('Squares, drawn in the sandbox:')\n"
        "plt.figure(figsize=(5, 2.2))\n"
        "plt.plot([n * n for n in range(30)])\n"
        "plt.show()",
        "visitor = input('Who is there? ')\nprint('Hello', visitor)",
        "import time\nprint('started')\nwhile True:\n    time.sleep(0.1)",
        "f'{visitor} is still known'",
        "visito",
    )
    opened = Notebook(page, lab, "sandbox.ipynb")
    opened.run(0)
    opened.shows(0, "Squares, drawn in the sandbox:")
    page.locator(".jp-OutputArea img").first.wait_for()
    opened.run(1)
    page.locator(".jp-Stdin-input").wait_for()
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")
    opened.shows(1, "Hello Ada")
    opened.run(2)
    opened.shows(2, "started")
    page.locator("[data-command='notebook:interrupt-kernel']").first.click()
    opened.shows(2, "KeyboardInterrupt")
    opened.run(3)
    opened.shows(3, "Ada is still known")
    page.locator(".jp-CodeCell .cm-content").nth(4).click()
    page.keyboard.press("End")
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while "visitor" not in page.locator(".jp-CodeCell .cm-content").nth(4).inner_text():
        # The first completion in a kernel takes longer than JupyterLab waits for one.
        assert time.monotonic() < deadline
        page.keyboard.press("Tab")
        time.sleep(1.5)
    page.locator(".jp-CodeCell .cm-content").first.scroll_into_view_if_needed()
    cells = service.api.http.get(f"/v1/sessions/{opened.kernel_id}/cells").json()["cells"]
    assert [cell["result"]["exit_code"] for cell in cells] == [0, 0, 130, 0]


def test_jupyterlab_restarts_a_busy_kernel(lab: Lab, page: Page, service: Service) -> None:
    """JupyterLab reports a dead kernel only if another client restarted it."""
    cells = "import time\nprint('started')\ntime.sleep(60)", "'time' in globals()"
    notebook(lab.folder / "restart.ipynb", *cells)
    opened = Notebook(page, lab, "restart.ipynb")
    died = page.get_by_text("appears to have died")
    opened.run(0)
    opened.shows(0, "started")
    page.locator("[data-command='notebook:restart-kernel']").first.click()
    page.locator(".jp-Dialog .jp-mod-warn").click()
    opened.idle()
    opened.run(1)
    opened.shows(1, "False")
    expect(died).to_have_count(0)
    assert service.api.http.post(f"/v1/sessions/{opened.kernel_id}/restart").status_code == 200
    died.wait_for()
    page.get_by_role("button", name="Ok").click()
    opened.run(1)
    opened.shows(1, "False")


def test_jupyterlab_opens_an_agents_session(lab: Lab, page: Page, service: Service, fresh: Session) -> None:
    """The session can be chosen as a kernelspec, and its variables are there."""
    fresh.run("secret = 'from the agent'")
    notebook(lab.folder / "agent.ipynb", "secret.upper()", kernel=f"session-{fresh.id}")
    opened = Notebook(page, lab, "agent.ipynb")
    opened.run(0)
    opened.shows(0, "FROM THE AGENT")
    assert opened.kernel_id == fresh.id
    assert service.api.http.get(f"/api/kernels/{fresh.id}").json()["connections"] == 1
    assert fresh.printed("print(secret, In[-2])").startswith("from the agent")
    page.goto("about:blank")
    deadline = time.monotonic() + 60
    while service.api.http.get(f"/api/kernels/{fresh.id}").json()["connections"]:
        assert time.monotonic() < deadline, "a closed tab left its WebSocket open"
        time.sleep(0.1)


def test_widgets_work_in_jupyterlab(lab: Lab, page: Page) -> None:
    """ipywidgets: a slider, a button, and a thread that sends text after its cell."""
    notebook(
        lab.folder / "widgets.ipynb",
        "from ipywidgets import Button, IntSlider, Output, interact\n"
        "def double(x):\n    print('x is', x)\n"
        "    display({'text/plain': f'twice that is {2 * x}'}, raw=True)\n"
        "interact(double, x=IntSlider(3, 0, 10));",
        "import threading\nlate, out, button = Output(), Output(), Button(description='press')\n"
        "@button.on_click\ndef click(_):\n    with out: print('pressed')\n"
        "threading.Timer(0.5, late.append_stdout, ['from a thread']).start()\ndisplay(button, out, late)",
    )
    opened = Notebook(page, lab, "widgets.ipynb")
    opened.run(0)
    opened.shows(0, "x is 3")
    page.locator(".noUi-handle").first.focus()
    for value in range(4, 8):
        page.keyboard.press("ArrowRight")
        opened.shows(0, f"x is {value}")
        opened.shows(0, f"twice that is {2 * value}")
    expect(page.locator(".jp-CodeCell").first).not_to_contain_text("x is 3")
    opened.run(1)
    opened.shows(1, "from a thread")
    page.locator("button.jupyter-button").click()
    opened.shows(1, "pressed")
