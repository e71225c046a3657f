"""Results in a notebook: what IPython displays, and that untrusted content cannot run there."""

import base64
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display
from IPython.utils.capture import capture_output
from traitlets.config import Config

from code_interpreter_client import Client, Image, Output, Result
from tests.support.process import Service

PLOT = """
import matplotlib.pyplot as plt
figure = plt.figure(figsize=(2, 1), dpi=50)
plt.plot([1, 2])
plt.show()
print('<b>printed</b>')
import pandas as pd
pd.DataFrame({'n': [1, 2]})
"""
EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)><table><tr><td>7</td></tr></table>"


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    """Start a real IPython, whose displays are captured."""
    config = Config()
    config.HistoryManager.enabled = False
    yield InteractiveShell.instance(config=config)
    InteractiveShell.clear_instance()


@pytest.fixture(scope="module")
def plotted(service: Service) -> Result:
    """Run code that prints text, draws a figure and ends with a table."""
    with Client(service.base_url) as client:
        return client.run(PLOT, timeout=25).check()


def shown(shell: InteractiveShell, value: object) -> dict[str, Any]:
    """Return the MIME bundle that IPython makes of a value."""
    assert shell.display_formatter is not None
    with capture_output() as captured:
        display(value)  # type: ignore[no-untyped-call]
    (output,) = captured.outputs
    data: dict[str, Any] = output.data
    return data


class Tags(HTMLParser):
    """The tags, attributes and text of an HTML document."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_result_displays_text_pictures_and_tables(shell: InteractiveShell, plotted: Result) -> None:
    """The bundle has a plain form, and an HTML form that shows each output once, in order."""
    bundle = shown(shell, plotted)
    assert bundle["text/plain"].startswith("<b>printed</b>\n   n\n0  1\n1  2")
    page = Tags(bundle["text/html"])
    assert [tag for tag, _ in page.found] == ["img", "pre", "iframe"]
    assert page.text.strip() == "<b>printed</b>"
    picture = str(page.found[0][1]["src"]).removeprefix("data:image/png;base64,")
    assert base64.b64decode(picture) == plotted.images[0].data
    assert "dataframe" in str(page.found[2][1]["srcdoc"])


def test_image_converts_to_bytes_picture_and_pil_image(shell: InteractiveShell, plotted: Result) -> None:
    """Pillow opens the image, a notebook shows it, and it has the id of its file."""
    (image,) = plotted.images
    opened = image.pil()
    assert (opened.format, image.media_type) == ("PNG", "image/png")
    assert opened.size[0] > 20
    opened.load()
    assert image.file_id
    assert shown(shell, image)["image/png"].strip() == base64.b64encode(image.data).decode()
    assert "bytes" in repr(image)


def test_html_of_the_code_cannot_run_in_the_notebook(shell: InteractiveShell) -> None:
    """HTML is in a frame without scripts and origin; other types that can run code are left out."""
    data = {"text/plain": "x", "text/html": EVIL, "application/javascript": "alert(1)", "text/markdown": EVIL}
    output = Output("display_data", data)
    result = Result(1, False, 1, stdout=EVIL, stderr=EVIL, outputs=(output,))
    for value in (output, result):
        bundle = shown(shell, value)
        assert bundle.keys() == {"text/plain", "text/html"}
        page = Tags(bundle["text/html"])
        assert {tag for tag, _ in page.found} <= {"pre", "span", "iframe"}
        frames = [attributes for tag, attributes in page.found if tag == "iframe"]
        assert [frame["sandbox"] for frame in frames] == [""]
        assert EVIL in str(frames[0]["srcdoc"])


def test_svg_is_displayed_as_an_image(shell: InteractiveShell) -> None:
    """Scripts do not run in an `img` element. Pillow cannot read SVG."""
    svg = "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
    output = Output("display_data", {"image/svg+xml": svg})
    for value in (output, output.images[0], Result(0, False, 1, outputs=(output,))):
        page = Tags(shown(shell, value)["text/html"])
        assert [tag for tag, _ in page.found] == ["img"]
        assert page.found[0][1].keys() == {"src"}
    assert output.images[0].extension == "svg"
    with pytest.raises(ValueError, match="svg"):
        output.images[0].pil()


def test_invalid_image_data_is_left_out() -> None:
    """Untrusted code may send values that are not base64, or not text."""
    for value in ("not base64!", 5, None, ["a"]):
        assert Output("display_data", {"image/png": value}).images == []
    with pytest.raises(ValueError, match="png"):
        Image("image/png", b"no picture").pil()


def test_failure_and_timeout_are_displayed(shell: InteractiveShell) -> None:
    """The summary reports the timeout even if the result has no text."""
    late = Result(None, True, 500)
    assert "timed out" in shown(shell, late)["text/plain"]
    assert "timed out" in shown(shell, late)["text/html"]
    assert late.summary() == "[the code timed out]"
    assert Result(0, False, 1).summary() == "[nothing was printed]"
    long = Result(0, False, 1, stdout="a" * 5000 + "b" * 5000).summary(1000)
    assert long.startswith("aaa")
    assert long.endswith("bbb")
    assert "9000 characters left out" in long
