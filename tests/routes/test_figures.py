"""Figures of matplotlib are outputs, whatever backend, style or font a program chooses."""

import base64
import struct

import pytest

from tests.support.api import Body
from tests.support.figures import BACKENDS, INTERACTIVE, NOT_SHOWN, PLOT
from tests.support.process import Service
from tests.support.session import Session


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


@pytest.mark.parametrize("end", ["", "plt.show()"], ids=["open", "shown"])
def test_forked_child_shows_no_figure_of_its_program(session: Session, service: Service, end: str) -> None:
    """The figure is one output, although two processes reach the program's end."""
    code = f"import os\n{PLOT}{end}\npid = os.fork()\nif pid: print(os.waitpid(pid, 0)[1])"
    for result in (session.run(code, timeout_ms=20_000), service.api.run(code, timeout_ms=20_000)):
        assert len(images(result)) == 1 and result["stdout"].endswith("0\n"), result


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


@pytest.mark.parametrize(("code", "name"), NOT_SHOWN.values(), ids=NOT_SHOWN.keys())
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
