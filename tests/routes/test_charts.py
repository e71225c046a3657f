"""Charts of Altair, Plotly and Bokeh are outputs with their MIME type, and an image where possible."""

import base64
from collections.abc import Iterator

import pytest

from tests.conftest import StartService
from tests.support.api import Body
from tests.support.process import Service
from tests.support.session import Session, new_session

ALTAIR = """
import altair as alt, pandas as pd
table = pd.DataFrame({'x': ['a', 'b'], 'y': [1, 2]})
chart = alt.Chart(table, title='销售额').mark_bar().encode(x='x', y='y')
"""
PLOTLY = "import plotly.graph_objects as go\nfigure = go.Figure(go.Bar(x=['a'], y=[1]))\n"
BOKEH = "from bokeh.plotting import figure, show\nplot = figure(width=200)\nplot.line([1, 2], [3, 4])\n"
PLOTLY_TYPE = "application/vnd.plotly.v1+json"
BOKEH_TYPE = "application/vnd.bokehjs_exec.v0+json"


@pytest.fixture(scope="module")
def session(service: Service) -> Iterator[Session]:
    """A session for all tests of this module."""
    with new_session(service) as session:
        yield session


def bundles(result: Body) -> list[Body]:
    """Return the MIME bundles of a result that has no error."""
    assert result["exit_code"] == 0, result["stderr"]
    assert result["stderr"] == ""
    return [output["data"] for output in result["outputs"]]


def run(session: Session, code: str) -> Body:
    """Run code in the session with a generous time limit."""
    return session.run(code, timeout_ms=30_000)


@pytest.mark.parametrize(
    "end",
    [
        "chart",
        "chart.show()",
        "display(chart)",
        "chart | chart",
        "alt.renderers.enable('html')\nchart",
        "alt.renderers.enable('browser')\nchart.interactive()",
        "alt.layer(chart, chart.mark_line())",
    ],
)
def test_altair_chart_has_its_mime_type_and_an_image(session: Session, end: str) -> None:
    """The renderer that a program chooses by habit does not matter."""
    (bundle,) = bundles(run(session, ALTAIR + end))
    assert any(kind.startswith("application/vnd.vegalite.v") for kind in bundle)
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert bundle["text/plain"] == "<VegaLite 6 object>"


def test_altair_chart_has_an_image_within_the_default_memory(start_service: StartService) -> None:
    """128 MiB suffice to draw it, in a call without a session."""
    service = start_service(
        POOL_SIZE=1, MEMORY_LIMIT_MB=128, MAX_EXEC_TIMEOUT_MS=30_000, CPU_TIME_LIMIT_SEC=20
    )
    (bundle,) = bundles(service.api.run(ALTAIR + "chart", timeout_ms=30_000))
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")


def test_altair_chart_of_data_at_an_address_has_no_image(session: Session) -> None:
    """An image without the data would mislead. The chart's MIME type has the address."""
    code = "import altair as alt\nalt.Chart('https://example.com/cars.json').mark_point().encode(x='a:Q')"
    (bundle,) = bundles(run(session, code))
    assert "image/png" not in bundle and "https://example.com" in str(bundle)


def test_altair_saves_images(session: Session) -> None:
    """`save` draws PNG, SVG and PDF files without a browser."""
    result = run(session, ALTAIR + "for kind in ('png', 'svg', 'pdf'): chart.save(f'chart.{kind}')")
    assert bundles(result) == []
    assert {file["path"] for file in result["files"]} >= {"chart.png", "chart.svg", "chart.pdf"}


@pytest.mark.parametrize(
    "end",
    [
        "figure.show()",
        "figure",
        "display(figure)",
        "figure.show(renderer='colab')",
        "import plotly.io as pio\npio.renderers.default = 'browser'\nfigure.show()",
        "import plotly.io as pio\npio.renderers.default = 'notebook'\npio.show(figure)",
        "import plotly.express as px\npx.line(x=[1, 2], y=[3, 4]).show()",
        "import pandas as pd\npd.options.plotting.backend = 'plotly'\npd.Series([1, 2]).plot()",
    ],
)
def test_plotly_figure_has_its_mime_type(session: Session, end: str) -> None:
    """Plotly opens no browser and sends no HTML that loads scripts."""
    (bundle,) = bundles(run(session, PLOTLY + end))
    assert bundle[PLOTLY_TYPE]["data"] and bundle["text/plain"] == "<Plotly figure>"
    assert "text/html" not in bundle


@pytest.mark.parametrize(
    "end", ["show(plot)", "from bokeh.io import output_notebook\noutput_notebook()\nshow(plot)"]
)
def test_bokeh_plot_has_its_mime_type(session: Session, end: str) -> None:
    """`show` displays the plot, with and without `output_notebook`."""
    assert [bundle for bundle in bundles(run(session, BOKEH + end)) if BOKEH_TYPE in bundle]


def test_bokeh_plot_is_also_the_file_that_the_program_names(service: Service) -> None:
    """`output_file` writes a page, which is returned as a file."""
    code = (
        "from bokeh.io import output_file\noutput_file('plot.html', mode='inline')\n" + BOKEH + "show(plot)"
    )
    result = service.api.run(code, timeout_ms=30_000)
    assert [bundle for bundle in bundles(result) if BOKEH_TYPE in bundle]
    assert [file["path"] for file in result["files"]] == ["plot.html"]


def test_charts_are_displays_of_streams(service: Service) -> None:
    """The chart is between the texts that the program prints before and after it."""
    code = ALTAIR + "print('before')\nchart.show()\nprint('after')"
    events = service.api.stream(code, timeout_ms=30_000)
    assert [event.type for event in events if event.type == "display"] == ["display"]


def test_libraries_of_charts_are_not_imported_at_the_start(service: Service) -> None:
    """A kernel takes no time and memory for them."""
    libraries = {"altair", "plotly", "bokeh", "ipywidgets", "vl_convert", "pyarrow"}
    code = f"import sys\nprint({libraries} & set(sys.modules))"
    assert service.api.run(code)["stdout"] == "set()\n"
