"""Running code in the page: outputs, keyboard shortcuts, and reloads."""

import json
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

from tests.page.conftest import KEYS, OpenNotebook
from tests.page.driver import Notebook
from tests.support.api import Api

pytestmark = pytest.mark.timeout(120)


def test_page_asks_for_the_key_and_keeps_it_in_the_tab(open_notebook: OpenNotebook) -> None:
    """A wrong key shows an error. The right key is sent in headers only, and never stored beyond the tab."""
    with open_notebook(key=None) as notebook:
        requests: list[tuple[str, str | None]] = []
        page = notebook.page
        page.on("request", lambda request: requests.append((request.url, request.headers.get("x-api-key"))))
        notebook.give_key("not-a-key-of-this-service")
        expect(page.get_by_text("That key is not valid.")).to_be_visible()
        notebook.give_key(KEYS["ada"])
        notebook.wait_until_ready()
        expect(page.locator("#no-sessions, #sessions li").first).to_be_visible()
        assert KEYS["ada"] in {key for _, key in requests}
        assert not [url for url, _ in requests if "the-key-of" in url]
        assert (
            notebook.evaluate("JSON.stringify(localStorage) + document.cookie + location.href").count(
                "the-key-of"
            )
            == 0
        )
        notebook.reload()
        expect(page.locator("dialog[open]")).to_have_count(0)
        page.get_by_role("button", name="Forget the key").click()
        expect(page.get_by_role("heading", name="API key")).to_be_visible()
        page.keyboard.press("Escape")
        expect(notebook.notices).to_contain_text("needs an API key")
        assert notebook.evaluate("JSON.stringify(sessionStorage)").count("the-key-of") == 0


def test_output_is_shown_while_the_code_runs(notebook: Notebook) -> None:
    """The first line is visible before the second is printed. The title shows that code runs."""
    cell = notebook.begin("import time\nprint('first')\ntime.sleep(1.5)\nprint('second')")
    expect(cell.locator(".outputs")).to_contain_text("first")
    assert cell.get_attribute("data-state") == "running"
    assert "second" not in notebook.output(cell)
    assert cell.locator(".prompt").text_content() == "[*]"
    expect(notebook.page).to_have_title("● Code Interpreter")
    notebook.wait_for(cell, "done")
    expect(notebook.page).to_have_title("Code Interpreter")
    assert notebook.output(cell).split() == ["first", "second"]
    assert "s" in (cell.locator(".took").text_content() or "")


def test_progress_bar_stays_on_its_line(notebook: Notebook) -> None:
    """Carriage returns, overwritten lines and colours look as in a terminal."""
    code = (
        "import sys, time\nfrom tqdm import tqdm\n"
        "for _ in tqdm(range(20), desc='bar'): time.sleep(0.02)\n"
        "print('\\x1b[31mred\\x1b[0m \\x1b[1;38;2;1;2;3mbold\\x1b[0m abc\\rX\\x1b[K\\nkept', file=sys.stderr)"
    )
    cell = notebook.run(code)
    text = notebook.output(cell)
    assert text.count("bar: 100%") == 1 and "bar:  5" not in text and "20/20" in text
    assert text.splitlines()[-2:] == ["X", "kept"]
    cell = notebook.run("print('\\x1b[31mred\\x1b[0m \\x1b[1;38;2;1;2;3mbold')")
    colours = cell.locator(".text span").evaluate_all(
        "spans => spans.map(span => getComputedStyle(span).color)"
    )
    assert colours == ["rgb(179, 38, 30)", "rgb(1, 2, 3)"]


def test_a_value_is_shown_once(notebook: Notebook) -> None:
    """The kernel also prints values and tracebacks. The page removes the printed copy."""
    cell = notebook.run("print('hello')\n6 * 7")
    assert notebook.output(cell).split() == ["hello", "42"]
    failed = notebook.run("print('before')\n1/0", state="failed")
    assert notebook.output(failed).count("ZeroDivisionError") == 1
    assert notebook.output(failed).startswith("before")
    expect(failed.locator(".error")).to_have_count(1)


def test_tables_images_and_drawings_are_shown(notebook: Notebook) -> None:
    """HTML, SVG and Markdown are in sandboxed frames, images in `img`. An update replaces its display."""
    code = (
        "from IPython.display import HTML, SVG, Image, Latex, Markdown, display\n"
        "import base64\n"
        "display(HTML('<table class=\"dataframe\"><tr><td>cell</td></tr></table>'))\n"
        'display(SVG(\'<svg xmlns="http://www.w3.org/2000/svg" width="90"><circle r="9"/></svg>\'))\n'
        "display(Markdown('# Heading\\n\\n*text*'))\n"
        "display({'application/json': {'a': [1]}}, raw=True)\n"
        "display({'text/latex': '$x$', 'text/plain': 'x'}, raw=True)\n"
        "display(Latex('$nothing else$'))\n"
        "display({'application/javascript': 'alert(1)'}, raw=True)\n"
        "place = display('old', display_id=True)\n"
        "place.update('new')\n"
        "Image(base64.b64decode('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='))"
    )
    cell = notebook.run(code)
    expect(cell.locator("iframe")).to_have_count(3)
    sandboxes = cell.locator("iframe").evaluate_all("all => all.map(frame => frame.sandbox.value)")
    assert sandboxes == ["allow-scripts"] * 3
    assert notebook.frame(cell, 0).inner_text("td") == "cell"
    assert notebook.frame(cell, 1).locator("circle").count() == 1
    assert notebook.frame(cell, 2).inner_text("h1") == "Heading"
    source = cell.locator("img").get_attribute("src")
    assert source is not None and source.startswith("blob:")
    assert cell.locator("img").evaluate("image => image.naturalWidth") == 1
    text = notebook.output(cell)
    assert '"a"' in text and "'new'" in text and "'old'" not in text
    assert "application/javascript is not shown here" in text and "$x$" not in text
    assert "$nothing else$" in text and "Latex object" not in text


def test_frames_are_as_high_as_their_contents(notebook: Notebook) -> None:
    """A frame is at most 1600 pixels high, whatever its content reports."""
    code = (
        "from IPython.display import HTML, display\ndisplay(HTML('<p style=\"height:{}px;margin:0\">x</p>'))"
    )
    heights = []
    for height in (300, 900_000):
        cell = notebook.run(code.format(height))
        expect(cell.locator("iframe")).not_to_have_css("height", "24px")
        heights.append(cell.locator("iframe").evaluate("frame => frame.clientHeight"))
    assert 300 <= heights[0] <= 320 and heights[1] == 1600


def test_prompts_are_answered_in_the_cell(notebook: Notebook) -> None:
    """`input()` and `getpass()` work. A password is not shown, neither during nor after typing."""
    cell = notebook.begin(
        "from getpass import getpass\nname = input('Your name? ')\nword = getpass('Word: ')"
    )
    expect(cell.get_by_label("Your name?")).to_be_focused()
    notebook.page.keyboard.type("Ada é")
    notebook.page.keyboard.press("Enter")
    expect(cell.get_by_label("Word:")).to_have_attribute("type", "password")
    notebook.page.keyboard.type("hush-hush")
    notebook.page.keyboard.press("Enter")
    notebook.wait_for(cell, "done")
    assert "Your name? Ada é" in notebook.output(cell) and "hush-hush" not in notebook.output(cell)
    assert "Ada é hush-hush" in notebook.output(notebook.run("print(name, word)"))


def test_pressing_i_twice_interrupts_and_empties_the_queue(notebook: Notebook) -> None:
    """The running cell fails, the queued one does not run, and the variables are kept."""
    notebook.run("kept = 'here'")
    running = notebook.begin("import time\nprint('begun')\ntime.sleep(25)")
    expect(running.locator(".outputs")).to_contain_text("begun")
    waiting = notebook.begin("print('must not run')")
    notebook.wait_for(waiting, "queued")
    notebook.page.keyboard.press("i")
    notebook.page.keyboard.press("i")
    notebook.wait_for(running, "failed")
    assert "KeyboardInterrupt" in notebook.output(running)
    notebook.wait_for(waiting, "idle")
    assert "here" in notebook.output(notebook.run("kept"))


def test_error_cancels_the_queued_cells(notebook: Notebook) -> None:
    """Queued cells do not run after a cell that fails."""
    first = notebook.begin("import time\ntime.sleep(1.5)\nraise ValueError('here')")
    second = notebook.begin("print('after')")
    notebook.wait_for(first, "failed")
    notebook.wait_for(second, "idle")


def test_keys_do_what_jupyter_users_expect(open_notebook: OpenNotebook) -> None:
    """Keys insert, delete, restore, move, select and edit cells, without a session or a mouse."""
    with open_notebook() as notebook:
        page, press = notebook.page, notebook.page.keyboard.press
        press("Enter")
        page.keyboard.type("one")
        press("Escape")
        press("b")
        press("Enter")
        page.keyboard.type("two")
        press("Escape")
        press("a")
        assert notebook.codes() == ["one", "", "two"]
        press("d")
        press("d")
        assert notebook.codes() == ["one", "two"]
        press("z")
        assert notebook.codes() == ["one", "", "two"]
        press("x")
        press("ArrowUp")
        press("Control+Shift+ArrowDown")
        assert notebook.codes() == ["two", "one"]
        press("c")
        press("v")
        assert notebook.codes() == ["two", "one", "one"]
        press("k")
        press("k")
        press("Enter")
        press("End")
        press("ArrowDown")
        page.keyboard.type("!")
        assert "!" in notebook.codes()[1]
        press("Escape")
        press("?")
        expect(page.get_by_role("heading", name="Keyboard shortcuts")).to_be_visible()
        press("Escape")
        press("f")
        expect(page.locator("#panel")).to_be_hidden()
        assert notebook.session_id == ""
        assert not notebook.problems


def test_the_editor_indents_and_closes_brackets(open_notebook: OpenNotebook) -> None:
    """Tab indents at the start of a line, brackets are paired, undo works, and Escape leaves the editor."""
    with open_notebook() as notebook:
        page, press = notebook.page, notebook.page.keyboard.press
        press("Enter")
        page.keyboard.type("if (x")
        assert notebook.code(notebook.cells.first) == "if (x)"
        page.keyboard.type("):\npass")
        assert notebook.code(notebook.cells.first) == "if (x):\n    pass"
        press("Home")
        press("Tab")
        assert notebook.code(notebook.cells.first) == "if (x):\n        pass"
        press("Shift+Tab")
        press("Shift+Tab")
        assert notebook.code(notebook.cells.first) == "if (x):\npass"
        press("Control+z")
        assert notebook.code(notebook.cells.first) == "if (x):\n    pass"
        press("Control+/")
        assert "# pass" in notebook.code(notebook.cells.first)
        assert page.locator(".cm-line span").count() > 1
        press("Escape")
        press("Tab")
        expect(notebook.cells.first.get_by_role("button", name="Run this cell")).to_be_focused()


def test_names_are_completed_and_described(notebook: Notebook, api: Api) -> None:
    """The kernel completes names if the service supports that. Otherwise the editor does."""
    notebook.run("treasure_chest = {'gold': 1}")
    paths = api.http.get("/openapi.json").json()["paths"]
    kernel = "/v1/sessions/{session_id}/complete" in paths
    cell = notebook.write("")
    cell.locator(".cm-content").click()
    notebook.page.keyboard.type("'🎉'; treas" if kernel else "rang")
    notebook.page.keyboard.press("Tab")
    expect(notebook.page.locator(".cm-tooltip-autocomplete")).to_contain_text(
        "treasure_chest" if kernel else "range"
    )
    # The editor ignores Enter right after the list appears, since the user cannot have read it.
    notebook.page.wait_for_timeout(150)
    notebook.page.keyboard.press("Enter")
    assert notebook.code(cell) == ("'🎉'; treasure_chest" if kernel else "range")
    if kernel:
        notebook.page.keyboard.type(".")
        expect(notebook.page.locator(".cm-tooltip-autocomplete")).to_contain_text("update")
        notebook.page.keyboard.press("Escape")
        notebook.page.keyboard.press("Backspace")
        notebook.page.keyboard.press("Shift+Tab")
        expect(notebook.page.get_by_role("tooltip")).to_contain_text("gold")
        notebook.page.keyboard.press("Escape")
    assert notebook.evaluate("document.activeElement.closest('.cm-editor') !== null")
    expect(notebook.notices).to_be_empty()


def test_restart_needs_confirmation(notebook: Notebook, api: Api) -> None:
    """After the restart the variables are gone and the files are kept."""
    notebook.run("gone = 1\nopen('stays.txt', 'w').close()")
    notebook.page.keyboard.press("0")
    notebook.page.keyboard.press("0")
    expect(notebook.page.get_by_role("heading", name="Restart the kernel?")).to_be_visible()
    notebook.page.keyboard.press("Enter")
    expect(notebook.notices).to_contain_text("The kernel was restarted")
    notebook.notices.get_by_role("button", name="Dismiss").click()
    assert "NameError" in notebook.output(notebook.run("gone", state="failed"))
    listed = api.http.get(f"/v1/sessions/{notebook.session_id}/files").json()["files"]
    assert "stays.txt" in {file["path"] for file in listed}


def test_notebook_is_saved_in_the_format_of_jupyter(notebook: Notebook, tmp_path: Path) -> None:
    """Ctrl-S downloads a valid .ipynb file with the cells that ran."""
    notebook.run("print('in the notebook')")
    with notebook.page.expect_download() as downloading:
        notebook.page.keyboard.press("Control+s")
    file = tmp_path / "saved.ipynb"
    downloading.value.save_as(file)
    assert downloading.value.suggested_filename.endswith(".ipynb")
    saved = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(saved)
    assert "in the notebook" in json.dumps(saved)


def test_a_reload_loses_nothing(open_notebook: OpenNotebook) -> None:
    """After a reload each cell is shown once, with its outputs. The running cell goes on."""
    with open_notebook() as notebook:
        notebook.run("print('once')")
        first = notebook.cells.first
        first.locator(".cm-content").fill("print('twice')")
        notebook.page.keyboard.press("Control+Enter")
        expect(first.locator(".outputs")).to_contain_text("twice")
        running = notebook.begin("import time\nprint('starts')\ntime.sleep(4)\nprint('ended')")
        expect(running.locator(".outputs")).to_contain_text("starts")
        notebook.page.wait_for_timeout(400)
        notebook.reload()
        expect(notebook.cells.nth(0).locator(".outputs")).to_have_text("twice\n")
        notebook.wait_for(notebook.cells.nth(1), "done")
        assert notebook.output(notebook.cells.nth(1)).split() == ["starts", "ended"]
        codes = notebook.codes()
        assert codes[0] == "print('twice')" and sum("ended" in code for code in codes) == 1
        assert "7" in notebook.output(notebook.run("3 + 4"))
        assert not notebook.problems
