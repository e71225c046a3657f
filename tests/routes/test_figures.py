"""Figures of matplotlib are outputs, whatever backend, style or font a program chooses."""

import base64
import struct
from collections.abc import Iterator

import pytest

from tests.support.api import Body
from tests.support.process import Service
from tests.support.session import Session, new_session

PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\n"
BACKENDS = {
    "use before pyplot": "import matplotlib\nmatplotlib.use('Agg')\n" + PLOT,
    "use after pyplot": "import matplotlib\n" + PLOT + "matplotlib.use('agg')\nplt.plot([2, 1])\n",
    "switch_backend": "import matplotlib.pyplot as plt\nplt.switch_backend('agg')\n" + PLOT,
    "rcParams": "import matplotlib\nmatplotlib.rcParams['backend'] = 'Agg'\n" + PLOT,
    "%matplotlib agg": "%matplotlib agg\n" + PLOT,
    "the environment": (
        "import os\nos.environ['MPLBACKEND'] = 'Agg'\nimport matplotlib\nmatplotlib.use('Agg')\n"
    )
    + PLOT,
    "cairo's replacement svg": "import matplotlib\nmatplotlib.use('svg')\n" + PLOT,
    "pdf": "import matplotlib\nmatplotlib.use('pdf')\n" + PLOT,
    "ps": "import matplotlib\nmatplotlib.use('ps')\n" + PLOT,
    "template": "import matplotlib\nmatplotlib.use('template')\n" + PLOT,
    "WebAgg": "import matplotlib\nmatplotlib.use('WebAgg')\n" + PLOT,
    "notebook": "import matplotlib\nmatplotlib.use('nbagg')\n" + PLOT,
    "inline": PLOT,
}
INTERACTIVE = ["matplotlib.use('TkAgg')", "matplotlib.use('QtAgg')", "plt.switch_backend('gtk3agg')"]


@pytest.fixture(scope="module")
def session(service: Service) -> Iterator[Session]:
    """A session for all tests of this module."""
    with new_session(service) as session:
        yield session


def images(result: Body) -> list[bytes]:
    """Return the PNG images of a result that has no error."""
    assert result["exit_code"] == 0, result["stderr"]
    return [
        base64.b64decode(output["data"]["image/png"])
        for output in result["outputs"]
        if "image/png" in output.get("data", {})
    ]


@pytest.mark.parametrize(
    "end", ["plt.show()", "", "plt.show(block=True)\nplt.show()"], ids=["shown", "open", "shown twice"]
)
@pytest.mark.parametrize("code", BACKENDS.values(), ids=BACKENDS.keys())
def test_figure_of_every_backend_is_an_output(session: Session, code: str, end: str) -> None:
    """There is one image, and a later cell's chart is an output, too."""
    try:
        assert len(images(session.run(code + end, timeout_ms=20_000))) == 1
        assert len(images(session.run("plt.plot([3])\nplt.show()"))) == 1
    finally:
        session.run(
            "import matplotlib\nmatplotlib.use('module://matplotlib_inline.backend_inline')\nplt.close('all')"
        )


@pytest.mark.parametrize("name", ["use before pyplot", "WebAgg", "pdf"])
def test_figure_without_a_session_is_an_output(service: Service, name: str) -> None:
    """The same holds for a call without a session."""
    assert len(images(service.api.run(BACKENDS[name] + "plt.show()", timeout_ms=20_000))) == 1


def test_figure_is_an_output_of_streams(service: Service) -> None:
    """The figure is a display event of the stream."""
    events = service.api.stream(BACKENDS["use before pyplot"] + "plt.show()", timeout_ms=20_000)
    assert [event.type for event in events if event.type == "display"] == ["display"]


def test_saved_figures_of_an_open_file_stay_files(session: Session) -> None:
    """A figure that is saved and closed is no output."""
    assert images(session.run(PLOT + "plt.savefig('chart.png')\nplt.close()")) == []


@pytest.mark.parametrize("choice", INTERACTIVE)
def test_backend_that_needs_a_screen_is_refused_with_a_reason(session: Session, choice: str) -> None:
    """The error names the backend and says what is missing, and charts work afterwards."""
    result = session.run(
        f"import matplotlib\nimport matplotlib.pyplot as plt\n{choice}\nplt.plot([1])\nplt.show()"
    )
    assert result["exit_code"] == 1
    assert result["error"]["value"].count("\n") == 0 and len(result["error"]["value"]) > 20
    assert len(images(session.run(PLOT))) == 1


SCRIPTS = {
    "Chinese": "中文",
    "Japanese": "かな",
    "Korean": "한국어",
    "Arabic": "سلام",
    "emoji": "😀",
    "Thai": "ไทย",
}
FONTS = {
    "a theme of seaborn": "import seaborn; seaborn.set_theme()",
    "Arial": "plt.rcParams['font.family'] = 'Arial'",
    "serif": "plt.rcParams['font.family'] = 'serif'",
    "monospace": "plt.rcParams['font.family'] = ['monospace']",
    "rcdefaults": "import matplotlib; matplotlib.rcdefaults()",
    "a style": "plt.style.use('ggplot')",
    "sans-serif": "plt.rcParams['font.sans-serif'] = ['SimHei', 'Arial']",
    "a family that is not there": "plt.rcParams['font.family'] = 'Comic Sans MS'",
}


@pytest.mark.parametrize("font", FONTS.values(), ids=FONTS.keys())
def test_text_of_all_scripts_is_drawn(session: Session, font: str) -> None:
    """No character is missing, and nothing is printed about fonts."""
    code = f"import matplotlib.pyplot as plt\n{font}\n"
    code += "".join(
        f"plt.text(0.1, 0.{number + 1}, {text!r})\n" for number, text in enumerate(SCRIPTS.values())
    )
    try:
        result = session.run(f"{code}plt.show()", timeout_ms=20_000)
        assert len(images(result)) == 1
        assert "missing from" not in result["stderr"], result["stderr"]
    finally:
        session.restart()


def test_font_of_one_text_has_fallbacks(session: Session) -> None:
    """Other scripts are drawn with `fontname=` and with a font from a file name, too."""
    code = "import matplotlib.pyplot as plt\nplt.title('中 한 😀', fontname='Arial')\n"
    code += (
        "plt.xlabel('中', fontname='Times New Roman')\nplt.ylabel('中', fontfamily='Courier New')\nplt.show()"
    )
    result = session.run(code, timeout_ms=20_000)
    assert len(images(result)) == 1 and "missing from" not in result["stderr"], result["stderr"]


@pytest.mark.parametrize(
    ("name", "font"),
    [
        ("Arial", "DejaVuSans"),
        ("Helvetica", "DejaVuSans"),
        ("Times New Roman", "DejaVuSerif"),
        ("Courier New", "DejaVuSansMono"),
        ("SimHei", "NotoSansCJK"),
        ("Microsoft YaHei", "NotoSansCJK"),
        ("Noto Sans CJK SC", "NotoSansCJK"),
    ],
)
def test_usual_font_names_are_found(session: Session, name: str, font: str) -> None:
    """The names of other systems' fonts stand for fonts of the image, also in lists of fonts."""
    code = (
        f"from matplotlib import font_manager as f\nprint(f.findfont({name!r}, fallback_to_default=False))\n"
    )
    code += f"print({name!r} in {{font.name for font in f.fontManager.ttflist}})"
    path, listed = session.printed(code).split()
    assert font in path and listed == "True"


BROKEN = """
class Broken:
    def __repr__(self):
        raise RuntimeError("no text")
"""
TOO_LARGE = (
    "import matplotlib.pyplot as plt\nfigure = plt.figure(figsize=(100_000, 100_000))\nplt.plot([1, 2])\n"
)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (BROKEN + "Broken()", "RuntimeError"),
        (BROKEN + "display(Broken())", "RuntimeError"),
        (BROKEN + "display(Broken())\nprint('goes on')", "RuntimeError"),
        (TOO_LARGE + "figure", "ValueError"),
        (TOO_LARGE + "display(figure)", "ValueError"),
        (TOO_LARGE + "plt.show()", "ValueError"),
        (TOO_LARGE, "ValueError"),
    ],
)
def test_output_that_cannot_be_shown_is_an_error(
    session: Session, service: Service, code: str, name: str
) -> None:
    """The result names the error, whether the object was displayed or was the last value."""
    for result in (session.run(code, timeout_ms=20_000), service.api.run(code, timeout_ms=20_000)):
        assert (result["exit_code"], result["error"]["name"]) == (1, name), result
        assert name in result["stderr"]
    session.run("import matplotlib.pyplot as plt\nplt.close('all')")
    assert session.printed("print('next')") == "next"


def test_image_has_the_pixels_of_the_figure(session: Session) -> None:
    """A figure of another backend has the size that the same figure has inline."""
    size = "plt.gcf().set_size_inches(3, 2)\nplt.gcf().patch.set_facecolor('red')\nplt.show()"
    (inline,) = images(session.run(PLOT + size))
    (agg,) = images(session.run(BACKENDS["use after pyplot"].replace("plt.plot([2, 1])", "") + size))
    session.restart()
    width_and_height = [struct.unpack(">II", image[16:24]) for image in (inline, agg)]
    assert width_and_height[0] == width_and_height[1]
