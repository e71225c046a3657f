"""Puts what a kernel writes to stdout and to stderr into one order, by the marks that it writes into both.

`kernel_image.kernel.marks` writes the marks. They are taken out of the text here.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from kernel_image import contract

_MARK_BYTES: Final = 128
_MOST_HELD_BYTES: Final = 1 << 20
_MOST_DIGITS: Final = 15


class MarkFinder:
    """Splits the bytes of one stream into text and the contents of marks."""

    def __init__(self, kernel_key: str) -> None:
        self._begin = contract.MARK_BEGIN + contract.mark_token(kernel_key)
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes | str]:
        """Take the next bytes of the stream; yield text as bytes and marks as strings, in order.

        Bytes that may be the beginning of a mark are kept for the next call, or for `rest`.
        """
        data, self._rest = self._rest + data, b""
        # Only indexes move: user code can write very many marks, and a copy for each would take seconds.
        start = searched = 0
        while (at := data.find(self._begin, searched)) >= 0:
            begin = searched = at + len(self._begin)
            end = data.find(contract.MARK_END, begin, begin + _MARK_BYTES)
            if end < 0 and len(data) < begin + _MARK_BYTES:
                break
            if end < 0:
                continue
            if at > start:
                yield data[start:at]
            yield data[begin:end].decode("ascii", "replace")
            start = searched = end + 1
        at = at if at >= 0 else self._begins_at(data, start)
        if at > start:
            yield data[start:at]
        self._rest = data[at:]

    def _begins_at(self, data: bytes, start: int) -> int:
        """Return where, from `start` on, `data` ends with a part of a mark's beginning, or its length."""
        at = data.rfind(contract.MARK_BEGIN, max(start, len(data) - len(self._begin)))
        return at if at >= 0 and self._begin.startswith(data[at:]) else len(data)

    def rest(self) -> bytes:
        """Return the bytes that were kept. Called at the end of the stream."""
        rest, self._rest = self._rest, b""
        return rest


class MarkedOutput:
    """The text of stdout and stderr in one order, with the ids of the messages that were published between.

    A mark is in both streams: its number, which grows, and the id of a message, or no id. So text before a
    mark is passed on before the text after it, whichever stream it is in. A stream that is at a mark waits
    for the other one.
    """

    def __init__(
        self, kernel_key: str, on_text: Callable[[int, bytes], None], on_message: Callable[[bytes], None]
    ) -> None:
        """`on_text` gets the kind of a frame and text; `on_message` gets the id of a published message."""
        kinds = (contract.FRAME_STDOUT, contract.FRAME_STDERR)
        self._finders = {kind: MarkFinder(kernel_key) for kind in kinds}
        self._waiting: dict[int, deque[bytes | tuple[int, str]]] = {kind: deque() for kind in kinds}
        self._held_bytes = 0
        self._on_text = on_text
        self._on_message = on_message

    def add(self, kind: int, data: bytes) -> None:
        """Take the next bytes of a stream."""
        waiting = self._waiting[kind]
        for piece in self._finders[kind].feed(data):
            if isinstance(piece, bytes):
                if waiting:
                    self._held_bytes += len(piece)
                    waiting.append(piece)
                else:
                    self._on_text(kind, piece)
            elif (mark := _parse(piece)) is not None:
                waiting.append(mark)
                self._held_bytes += _MARK_BYTES
                self._pass_on()
        if self._held_bytes > _MOST_HELD_BYTES:
            # User code has kept a mark out of one of the streams.
            self._pass_on_all()

    def flush(self) -> None:
        """Pass on what waits for a mark in the other stream. Called when a cell or the kernel has ended."""
        self._pass_on_all()
        for kind, finder in self._finders.items():
            if rest := finder.rest():
                self._on_text(kind, rest)

    def _pass_on(self) -> None:
        """Pass on what no longer waits. If both streams are at a mark, the lower one is passed."""
        while all(self._waiting.values()):
            number, message_id = min(self._next_mark(kind) for kind in self._waiting)
            self._pass_mark(number, message_id)

    def _next_mark(self, kind: int) -> tuple[int, str]:
        mark = self._waiting[kind][0]
        assert isinstance(mark, tuple), "text after a mark follows the mark"
        return mark

    def _pass_mark(self, number: int, message_id: str) -> None:
        """Pass on the mark that comes next, and the text that follows it in each stream."""
        if message_id:
            self._on_message(message_id.encode())
        for kind, waiting in self._waiting.items():
            if waiting and self._next_mark(kind)[0] <= number:
                waiting.popleft()
                self._held_bytes -= _MARK_BYTES
                while waiting and isinstance(waiting[0], bytes):
                    text = waiting.popleft()
                    assert isinstance(text, bytes)
                    self._held_bytes -= len(text)
                    self._on_text(kind, text)

    def _pass_on_all(self) -> None:
        while any(self._waiting.values()):
            number, message_id = min(self._next_mark(kind) for kind, found in self._waiting.items() if found)
            self._pass_mark(number, message_id)


def _parse(mark: str) -> tuple[int, str] | None:
    """Return the number of a mark and the id of its message; None if user code has made it up."""
    number, _, message_id = mark.partition(" ")
    if not (number.isascii() and number.isdecimal() and len(number) <= _MOST_DIGITS):
        return None
    return int(number), message_id
