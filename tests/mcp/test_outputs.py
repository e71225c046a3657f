"""Figures and failures to show something arrive as content for a model."""

import pytest
from mcp import Client

from tests.mcp.support import images, python, text
from tests.support.figures import BACKENDS, INTERACTIVE, NOT_SHOWN, PLOT


async def test_figure_of_every_backend_is_an_image(client: Client) -> None:
    """This holds for figures that are shown and for those left open, one conversation for all."""
    for name, code in BACKENDS.items():
        for end in ("plt.show()", ""):
            result = await python(client, code + end)
            found = images(result)
            assert not result.is_error and len(found) == 1, (name, end, text(result))
            assert found[0].startswith(b"\x89PNG")


async def test_backend_that_needs_a_screen_is_an_error_with_a_reason(client: Client) -> None:
    """The text names what is missing, and charts work afterwards."""
    for choice in INTERACTIVE:
        result = await python(
            client, f"import matplotlib\nimport matplotlib.pyplot as plt\n{choice}\nplt.plot([1])"
        )
        assert result.is_error and "Error" in text(result), choice
        assert len(images(await python(client, PLOT))) == 1


async def test_output_that_cannot_be_shown_is_an_error(client: Client) -> None:
    """The text names the error, whether the object was displayed or was the last value."""
    for what, (code, name) in NOT_SHOWN.items():
        result = await python(client, code)
        assert result.is_error and f"{name}: " in text(result), (what, text(result))
        await python(client, "import matplotlib.pyplot as plt\nplt.close('all')")


@pytest.mark.parametrize("code", ["breakpoint()", "import pdb; pdb.set_trace()"])
async def test_program_that_a_debugger_ends_is_an_error(client: Client, code: str) -> None:
    """A model cannot answer input, so the debugger ends the program."""
    result = await python(client, f"{code}\nx = 1\nprint('after')")
    assert result.is_error and "BdbQuit" in text(result) and "after\n" not in text(result)
    assert "next" in text(await python(client, "print('next')"))
