"""Widgets stand as one line of text in the outputs of REST calls."""

from collections.abc import Iterator

import pytest

from tests.support.api import Body
from tests.support.process import Service
from tests.support.session import Session, new_session

BARS = {
    "tqdm.notebook": "from tqdm.notebook import tqdm\nfor _ in tqdm(range(7)): pass",
    "tqdm.auto": "from tqdm.auto import tqdm\nfor _ in tqdm(range(7), desc='work'): pass",
    "trange": "from tqdm.auto import trange\nfor _ in trange(7): pass",
    "progress_apply": (
        "import pandas as pd\nfrom tqdm.auto import tqdm\ntqdm.pandas()\n"
        "pd.Series(range(7)).progress_apply(lambda x: x)\nNone"
    ),
    "update": "from tqdm.auto import tqdm\nwith tqdm(total=7) as bar:\n    for _ in range(7): bar.update()",
}


@pytest.fixture(scope="module")
def session(service: Service) -> Iterator[Session]:
    """A session for all tests of this module."""
    with new_session(service) as session:
        yield session


def lines(result: Body) -> list[str]:
    """Return the texts of a result's outputs, each one line, and nothing in its streams."""
    assert (result["exit_code"], result["stdout"], result["stderr"]) == (0, "", ""), result
    texts = [output["data"]["text/plain"] for output in result["outputs"]]
    assert not any("\n" in text for text in texts)
    return texts


@pytest.mark.parametrize("code", BARS.values(), ids=BARS.keys())
def test_progress_bar_is_one_line_with_its_last_state(session: Session, code: str) -> None:
    """stdout and stderr are empty, and the line says that all is done."""
    (line,) = lines(session.run(code, timeout_ms=20_000))
    assert "100%" in line and "7/7" in line


def test_progress_bar_without_a_session_is_one_line(service: Service) -> None:
    """The same holds for a call without a session."""
    (line,) = lines(service.api.run(BARS["tqdm.auto"], timeout_ms=20_000))
    assert line.startswith("work: 100%") and "7/7" in line


def test_progress_bar_of_a_loop_that_fails_has_the_state_of_the_failure(session: Session) -> None:
    """The last state is known even if an exception ends the cell."""
    result = session.run(
        "from tqdm.auto import tqdm\nfor i in tqdm(range(7)): 1 / (3 - i)", timeout_ms=20_000
    )
    (output,) = [output for output in result["outputs"] if output["output_type"] == "display_data"]
    assert "ZeroDivisionError" in result["stderr"] and "3/7" in output["data"]["text/plain"]


def test_each_bar_has_a_line(session: Session) -> None:
    """Bars that are nested, or follow each other, do not replace each other."""
    code = (
        "from tqdm.auto import tqdm\nfor _ in tqdm(range(2), desc='outer'):\n"
        "    for _ in tqdm(range(3), desc='inner'): pass"
    )
    found = lines(session.run(code, timeout_ms=20_000))
    assert [line.partition(":")[0] for line in found] == ["outer", "inner", "inner"]
    assert all("100%" in line for line in found)


@pytest.mark.parametrize(
    "end",
    ["slider", "display(slider)", "from ipywidgets import VBox\nVBox([slider])"],
    ids=["last", "display", "box"],
)
def test_widget_is_one_line_with_its_last_value(session: Session, end: str) -> None:
    """A widget as the last value is in the outputs, and not in stdout."""
    code = f"from ipywidgets import IntSlider\nslider = IntSlider(value=3)\n{end}"
    (line,) = lines(session.run(code, timeout_ms=20_000))
    assert "IntSlider(value=3" in line


def test_value_that_changes_after_the_display_is_shown(session: Session) -> None:
    """The line has the value at the end of the cell."""
    code = "from ipywidgets import Label\nlabel = Label('first')\ndisplay(label)\nlabel.value = 'last'"
    (line,) = lines(session.run(code, timeout_ms=20_000))
    assert line == "Label(value='last')"


def test_stream_updates_the_line(service: Service) -> None:
    """A reader of the stream gets the widget when it is displayed, and its last state at the end."""
    events = service.api.stream(BARS["update"], timeout_ms=20_000)
    shown = [event.data for event in events if event.type == "display"]
    assert [event["output_type"] for event in shown] == ["display_data", "update_display_data"]
    assert "7/7" in shown[-1]["data"]["text/plain"]
