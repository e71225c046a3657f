"""Figures and failures to show something arrive in a notebook."""

import pytest

from tests.gateway.channels import Channels
from tests.support.figures import BACKENDS, INTERACTIVE, NOT_SHOWN, PLOT


def figures(channels: Channels, code: str) -> int:
    """Run a cell that must succeed, and return the number of images."""
    outcome = channels.run(code)
    assert outcome.status == "ok", outcome.reply
    return sum("image/png" in message["content"]["data"] for message in outcome.of("display_data"))


@pytest.mark.parametrize("end", ["plt.show()", ""], ids=["shown", "open"])
@pytest.mark.parametrize("code", BACKENDS.values(), ids=BACKENDS.keys())
def test_figure_of_every_backend_is_a_display(channels: Channels, code: str, end: str) -> None:
    """There is one image, and a later cell's chart is a display, too."""
    assert figures(channels, code + end) == 1
    assert figures(channels, "plt.plot([3])\nplt.show()") == 1


@pytest.mark.parametrize("choice", INTERACTIVE)
def test_backend_that_needs_a_screen_is_refused_with_a_reason(channels: Channels, choice: str) -> None:
    """The error is one line, and charts work afterwards."""
    outcome = channels.run(f"import matplotlib\nimport matplotlib.pyplot as plt\n{choice}\nplt.plot([1])")
    (error,) = outcome.of("error")
    assert "\n" not in error["content"]["evalue"] and len(error["content"]["evalue"]) > 20
    assert figures(channels, PLOT) == 1


@pytest.mark.parametrize(("code", "name"), NOT_SHOWN.values(), ids=NOT_SHOWN.keys())
def test_output_that_cannot_be_shown_is_an_error(channels: Channels, code: str, name: str) -> None:
    """The notebook gets the error and a reply that names it."""
    outcome = channels.run(code)
    assert outcome.reply["content"]["ename"] == name
    assert {message["content"]["ename"] for message in outcome.of("error")} == {name}
    channels.run("import matplotlib.pyplot as plt\nplt.close('all')")
    assert channels.run("print('next')").text == "next\n"
