"""What one cell shows: text and displays, which come on two ways, in the order they were made. No I/O."""

from collections import deque
from collections.abc import Callable
from typing import Final

from kernel_image import contract
from sessions.kernels.cells.cell_end import CellEnd
from sessions.kernels.cells.displays import DisplayCollector
from sessions.kernels.cells.text import TextCollector
from sessions.kernels.messages import Message
from sessions.models import Budget, CellEvent, Mark, OutputChunk

_MARKED_KINDS: Final = frozenset({"display_data", "execute_result", "update_display_data", "clear_output"})
_MOST_ID_BYTES: Final = 128


class CellOutputs:
    """Merges the text, which has marks, and the messages that the marks name.

    Text after a mark waits for the message, and a message waits for its mark. When one of the ways has ended,
    nothing waits for it any more.

    Attributes:
        displays: the rich outputs so far.
    """

    def __init__(self, emit: Callable[[CellEvent], None], budget: Budget, *, passes_marks: bool) -> None:
        """`emit` gets the events in order; marks are events if `passes_marks` is true."""
        self.displays = DisplayCollector(budget.display_bytes, emit)
        self._text = TextCollector(self._take, budget.output_bytes)
        self._emit = emit
        self._passes_marks = passes_marks
        self._most_held_bytes = budget.display_bytes
        self._following: deque[OutputChunk | Mark] = deque()
        """The text and the marks after the mark whose message has not arrived."""
        self._awaited: str | None = None
        """Id of the message that the text waits for."""
        self._waiting: dict[str, Message] = {}
        """Messages that wait for their marks, by their ids, in the order of arrival."""
        self._waiting_bytes = 0
        self._shown_early: set[str] = set()
        """Ids of messages that were shown before their marks came."""
        self._marks = 0
        self._text_has_ended = self._messages_have_ended = False

    # --- text -------------------------------------------------------------------------------------

    def take_text(self, kind: int, payload: bytes) -> None:
        """Take the payload of a frame of text. Raises `SupervisorFailed` if there is too much text."""
        self._text.take(kind, payload)

    def take_mark(self, payload: bytes) -> None:
        """Take the payload of a frame with a mark. More of them than a supervisor sends are ignored."""
        self._marks += 1
        if self._marks <= contract.MOST_MARKS and len(payload) <= _MOST_ID_BYTES:
            self._text.emit_gathered()
            self._take(Mark(payload.decode("utf-8", "replace")))

    def finish_text(self, end: CellEnd, note: str) -> None:
        """Take the end of the text. `note` is a last line for stderr, or empty."""
        self._text.finish(end, note)
        self._text_has_ended = True
        if self._no_more_marks:
            self._show_waiting()

    @property
    def _no_more_marks(self) -> bool:
        """Whether no mark is to come, neither from the container nor in the text that waits."""
        return self._awaited is None and (self._text_has_ended or self._marks >= contract.MOST_MARKS)

    def _take(self, event: OutputChunk | Mark) -> None:
        if self._awaited is None:
            self._pass_on(event)
        else:
            self._following.append(event)

    def _pass_on(self, event: OutputChunk | Mark) -> None:
        if isinstance(event, OutputChunk):
            self.displays.print(event)
            return
        if self._passes_marks:
            self._emit(event)
        message = self._waiting.pop(event.message_id, None)
        if message is not None:
            self._waiting_bytes -= message.weight
            self.displays.take(message)
        elif not self._messages_have_ended and event.message_id not in self._shown_early:
            self._awaited = event.message_id

    def _pass_on_following(self) -> None:
        """Pass on what waits for a message, up to the next mark whose message has not arrived."""
        self._awaited = None
        while self._following and self._awaited is None:
            self._pass_on(self._following.popleft())
        if self._no_more_marks:
            self._show_waiting()

    # --- messages ---------------------------------------------------------------------------------

    def take_message(self, message: Message) -> None:
        """Take a message that the kernel published for the cell."""
        if message.message_id == self._awaited:
            self.displays.take(message)
            self._pass_on_following()
        elif self._no_more_marks or message.kind not in _MARKED_KINDS or not message.message_id:
            self.displays.take(message)
        else:
            self._waiting[message.message_id] = message
            self._waiting_bytes += message.weight
            if self._waiting_bytes + self.displays.held_bytes > self._most_held_bytes:
                # There are more displays than may be kept, or user code keeps the marks out of the text.
                self._shown_early.update(name for name in self._waiting if len(name) <= _MOST_ID_BYTES)
                self._show_waiting()

    def _show_waiting(self) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, {}, 0
        for message in waiting.values():
            self.displays.take(message)

    def finish_messages(self) -> None:
        """Take the end of the messages."""
        self._messages_have_ended = True
        self._pass_on_following()

    def truncated(self, end: CellEnd) -> list[str]:
        """Return which of `stdout`, `stderr` and `outputs` are not complete."""
        return [*self._text.truncated(end), *(["outputs"] if self.displays.truncated else [])]
