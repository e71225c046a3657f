"""Text with marks, and messages, merged in every order in which they can arrive."""

import itertools

import pytest

from kernel_image import contract
from sessions.kernels.cells.cell_end import CellEnd
from sessions.kernels.cells.outputs import CellOutputs
from sessions.kernels.messages import Message
from sessions.models import Budget, CellEvent, ClearOutput, Display, OutputChunk

BUDGET = Budget(cpu_sec=1, memory_bytes=1, output_bytes=1000, display_bytes=100_000)
TEXT: list[bytes | str] = [b"a", "1", b"b", "2", b"c"]


def message(name: str, weight: int = 10) -> Message:
    """Return a display whose text and id are the same."""
    content = {"data": {"text/plain": f"<{name}>"}, "metadata": {}}
    return Message("display_data", content, weight, message_id=name)


class Cell:
    """A cell whose events are kept."""

    def __init__(self) -> None:
        self.events: list[CellEvent] = []
        self.outputs = CellOutputs(self.events.append, BUDGET, passes_marks=False)

    def read(self, part: bytes | str) -> None:
        """Take text, or a mark."""
        if isinstance(part, bytes):
            self.outputs.take_text(contract.FRAME_STDOUT, part)
        else:
            self.outputs.take_mark(part.encode())

    def end_text(self) -> None:
        """Take the end of the text."""
        self.outputs.finish_text(CellEnd(3, 0, 0.0, None, (), ()), "")

    @property
    def shown(self) -> str:
        """What the events show."""
        return "".join(
            event.text if isinstance(event, OutputChunk) else event.output["data"]["text/plain"]
            for event in self.events
            if isinstance(event, OutputChunk | Display)
        )


@pytest.mark.parametrize("names", [("1", "2"), ("2", "1")])
def test_order_is_that_of_the_marks_whenever_messages_arrive(names: tuple[str, str]) -> None:
    """Each message comes before, between or after the parts of the text; two threads may swap them."""
    for places in itertools.combinations_with_replacement(range(len(TEXT) + 1), 2):
        cell = Cell()
        for at in range(len(TEXT) + 1):
            for place, name in zip(places, names, strict=True):
                if place == at:
                    cell.outputs.take_message(message(name))
            if at < len(TEXT):
                cell.read(TEXT[at])
        assert cell.shown == "a<1>b<2>c"
        cell.end_text()
        cell.outputs.finish_messages()
        assert cell.shown == "a<1>b<2>c"
        assert len(cell.outputs.displays.order) == 5


def test_clearing_again_what_is_cleared_is_no_event() -> None:
    """Code can clear a hundred thousand times. At once, after waiting for the next output, is a change."""
    cell = Cell()
    for wait in (True, True, False, False, True, True):
        cell.outputs.displays.add("clear_output", {"wait": wait}, 10)
    assert cell.events == [ClearOutput(wait=True), ClearOutput(wait=False)]
    cell.read(b"a")
    cell.outputs.displays.add("clear_output", {"wait": True}, 10)
    assert cell.events[2:] == [OutputChunk("stdout", "a"), ClearOutput(wait=True)]


def test_nothing_is_lost_when_marks_or_messages_are_missing() -> None:
    """A message without a mark follows the text; text after a mark without a message follows at the end."""
    cell = Cell()
    cell.outputs.take_message(message("0"))
    for part in TEXT:
        cell.read(part)
    cell.outputs.take_message(message("2"))
    assert cell.shown == "a"
    cell.end_text()
    cell.outputs.finish_messages()
    assert cell.shown == "ab<2>c<0>"


def test_messages_that_wait_are_bounded() -> None:
    """Code that keeps the marks out of its text gets its displays without an order."""
    cell = Cell()
    for number in range(12):
        cell.outputs.take_message(message(str(number), weight=10_000))
    assert cell.shown.startswith("<0><1>")
