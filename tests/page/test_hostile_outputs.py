"""Hostile outputs reach neither the key, the page, the API nor a network."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, expect

from tests.page.conftest import KEYS, OpenNotebook
from tests.page.driver import Notebook
from tests.page.listener import Listener, listening
from tests.support.api import Api

pytestmark = pytest.mark.timeout(120)

ATTACKS = {
    "script": "<script>new Image().src = 'URL'</script>",
    "script-source": "<script src='URL'></script>",
    "handler": "<img src='data:,' onerror=\"new Image().src = 'URL'\">",
    "svg-onload": "<svg onload=\"new Image().src = 'URL'\"></svg>",
    "image": "<img src='URL'>",
    "import": "<style>@import 'URL';</style>",
    "background": "<p style=\"background: url('URL')\">x</p>",
    "font": "<style>@font-face { font-family: f; src: url('URL') }</style><p style='font-family: f'>x</p>",
    "stylesheet": "<link rel='stylesheet' href='URL'>",
    "prefetch": "<link rel='prefetch' href='URL'>",
    "refresh": "<meta http-equiv='refresh' content='0; url=URL'>",
    "frame": "<iframe src='URL'></iframe>",
    "nested": "<iframe srcdoc=\"<img src='URL'>\"></iframe>",
    "object": "<object data='URL'></object>",
    "embed": "<embed src='URL'>",
    "video": "<video poster='URL'></video>",
    "svg-image": "<svg><image href='URL' width='9' height='9'/></svg>",
    "base": "<base href='URL/'><img src='x.png'>",
    "form": "<form action='URL' method='post'><button class='bait'>x</button></form>",
    "link": "<a class='bait' href='URL'>x</a>",
    "top": "<a class='bait' href='URL' target='_top'>x</a>",
    "blank": "<a class='bait' href='URL' target='_blank'>x</a>",
    "svg-link": "<svg><a href='URL'><rect class='bait' width='50' height='30'/></a></svg>",
    "javascript": "<a class='bait' href=\"javascript:void(new Image().src = 'URL')\">x</a>",
}
"""Each attack tries to reach `URL`; one with a `bait`, when the bait is clicked."""


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    """Start the server that the attacks try to reach."""
    with listening() as found:
        yield found


@pytest.fixture(scope="module")
def notebook(open_notebook: OpenNotebook) -> Iterator[Notebook]:
    """Open a notebook for this module alone, because the browser keeps logging errors about its outputs."""
    with open_notebook() as opened:
        yield opened


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_attack_works_without_the_frame(browser: Browser, listener: Listener, attack: str) -> None:
    """In an unrestricted page, each attack reaches the server."""
    page = browser.new_page()
    listener.forget()
    page.set_content(ATTACKS[attack].replace("URL", f"{listener.url}/{attack}"))
    if page.locator(".bait").count():
        page.locator(".bait").click(no_wait_after=True)
    for _ in range(200):
        if listener.connections:
            break
        page.wait_for_timeout(20)
    page.close()
    assert listener.connections


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "text/markdown"])
def test_nothing_that_is_shown_gets_out(notebook: Notebook, listener: Listener, kind: str) -> None:
    """All attacks are shown and each bait is clicked. No connection, navigation or new tab follows."""
    listener.forget()
    page = notebook.page
    markup = [attack.replace("URL", f"{listener.url}/{name}") for name, attack in ATTACKS.items()]
    if kind == "image/svg+xml":
        markup = [f"<svg xmlns='http://www.w3.org/2000/svg'><g>{attack}</g></svg>" for attack in markup]
    code = f"from IPython.display import display\nfor one in {markup!r}:\n"
    code += f"    display({{{kind!r}: one}}, raw=True)"
    cell = notebook.run(code)
    expect(cell.locator("iframe")).to_have_count(len(ATTACKS))
    address = page.url
    for position in range(len(ATTACKS)):
        frame = cell.locator("iframe").nth(position).element_handle().content_frame()
        assert frame is not None
        frame.wait_for_function("document.getElementById('content').className")
        for bait in frame.locator(".bait").all():
            if bait.is_visible():
                bait.click(force=True, no_wait_after=True)
    page.wait_for_timeout(500)
    assert listener.connections == 0, listener.paths
    assert page.url == address
    assert len(page.context.pages) == 1
    assert {frame.url.partition("#")[0] for frame in page.frames[1:]} == {
        address.partition("#")[0] + "page/frame.html"
    }


ATTEMPTS = {
    "key": "parent.sessionStorage.getItem('api-key')",
    "own storage": "sessionStorage.length",
    "cookie": "document.cookie",
    "page": "parent.document.body.innerHTML",
    "element": "frameElement.ownerDocument.title",
    "api": "fetch('/v1/sessions').then(answer => answer.status)",
    "foreign": "fetch('URL').then(answer => answer.status)",
    "socket": "new Promise((open, close) => {"
    " const socket = new WebSocket('URL'.replace('http', 'ws'));"
    " socket.onopen = open; socket.onerror = close })",
    "top": "void (top.location = 'URL')",
    "worker": "new Worker('URL').constructor.name",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_script_in_a_frame_would_reach_nothing(notebook: Notebook, listener: Listener, attempt: str) -> None:
    """As a second defence, a script in a frame has no origin, no network and no access to the page."""
    listener.forget()
    cell = notebook.cells.filter(has_text="alone-in-a-frame").first
    if not cell.count():
        cell = notebook.run("from IPython.display import HTML\nHTML('<p>alone-in-a-frame</p>')")
    frame = notebook.frame(cell)
    address = notebook.page.url
    script = ATTEMPTS[attempt].replace("URL", f"{listener.url}/{attempt}")
    attack = (
        "script => { const element = document.createElement('script'); element.textContent = script;"
        " document.body.append(element); return window.reached }"
    )
    assert frame.evaluate(attack, "window.reached = 1") is None, "a script was run"
    with pytest.raises(Error):
        frame.evaluate(f"async () => await ({script})")
    assert listener.connections == 0
    assert notebook.page.url == address
    assert frame.evaluate("origin") == "null"


def test_frame_cannot_navigate_to_another_site(notebook: Notebook, listener: Listener) -> None:
    """The page's policy blocks the navigation. Other cells still work."""
    listener.forget()
    cell = notebook.run("from IPython.display import HTML\nHTML('<p>to be led away</p>')")
    notebook.frame(cell).evaluate("url => { location = url }", listener.url)
    notebook.page.wait_for_timeout(500)
    assert listener.paths == []
    assert "1" in notebook.output(notebook.run("1"))


def test_page_cuts_huge_outputs_and_stays_fast(notebook: Notebook) -> None:
    """Huge text, colours and HTML make a limited number of elements. A note says what is not shown."""
    shown = {
        "print('line of text\\n' * 70_000)": "The beginning is not shown",
        "print('x' * 1_000_000)": "xxx",
        "print('\\x1b[3%dm' * 3 % (1, 2, 3) + '\\x1b[31mx\\x1b[0my' * 60_000)": "xyxy",
        "print('\\x1b[' * 300_000)": "",
        "from IPython.display import HTML\nHTML('<p>x</p>' * 500_000)": "is not shown",
        "'z' * 900_000": "more characters",
    }
    for code, text in shown.items():
        cell = notebook.run(code)
        assert text in notebook.output(cell)
        assert cell.locator(".outputs *").count() < 25_000
    assert (
        notebook.evaluate(
            "(() => { const began = performance.now(); document.body.offsetHeight; "
            "return performance.now() - began })()"
        )
        < 2000
    )
    assert "4" in notebook.output(notebook.run("2 + 2"))


def test_file_names_are_shown_as_plain_text(notebook: Notebook, api: Api) -> None:
    """Markup stays text. Invisible characters are shown as `U+…`, and replaced in downloads."""
    names = [
        "<img src=x onerror=alert(1)>.txt",
        "ev\u202egnp.txt",
        "two\nlines.txt",
        "zero\u200bwidth.txt",
        "'\"&amp;.txt",
    ]
    notebook.run(f"for name in {names!r}: open(name, 'w').write('found ' + name)")
    listed = notebook.page.locator("#files .name")
    expect(listed.filter(has_text="zero")).to_be_visible()
    texts = set(listed.all_inner_texts())
    assert {
        "<img src=x onerror=alert(1)>.txt",
        "evU+202Egnp.txt",
        "twoU+000Alines.txt",
        "zeroU+200Bwidth.txt",
    } <= texts
    assert "'\"&amp;.txt" in texts
    with notebook.page.expect_download() as downloading:
        notebook.button("Download evU+202Egnp.txt").first.click()
    assert "\u202e" not in downloading.value.suggested_filename
    assert Path(downloading.value.path()).read_text() == "found ev\u202egnp.txt"
    for name in ("twoU+000Alines.txt", "evU+202Egnp.txt"):
        notebook.button(f"Delete {name}").click()
        expect(listed.filter(has_text=name)).to_have_count(0)


def test_errors_and_prompts_are_shown_as_plain_text(notebook: Notebook) -> None:
    """Markup in exceptions, prompts, streams and JSON creates no elements."""
    markup = '<img src=x onerror="window.reached=1"><b>bold</b>'
    cell = notebook.begin(f"markup = {markup!r}\nprint(markup)\ninput(markup)\nraise ValueError(markup)")
    expect(cell.locator(".ask input")).to_be_focused()
    assert cell.locator(".outputs b, .outputs img").count() == 0
    notebook.page.keyboard.press("Enter")
    notebook.wait_for(cell, "failed")
    assert cell.locator(".outputs b, .outputs img").count() == 0
    shown = notebook.run(
        "from IPython.display import display\ndisplay({'application/json': {markup: markup}}, raw=True)"
    )
    assert "bold" in notebook.output(shown)
    assert notebook.page.locator("#cells b").count() == 0
    assert notebook.evaluate("window.reached") is None


def test_the_key_is_nowhere_in_the_page(notebook: Notebook) -> None:
    """The document and its fields do not contain the key."""
    everything: dict[str, Any] = notebook.evaluate(
        "({ html: document.documentElement.outerHTML,"
        " fields: [...document.querySelectorAll('input')].map(field => field.value) })"
    )
    assert KEYS["ada"] not in json.dumps(everything)
