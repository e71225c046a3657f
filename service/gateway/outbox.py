"""What a client is to get, kept while it is slow or away.

Bounded: what is too much is left out, and it is said that something was.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from service.gateway.wire import Packed
from sessions.models import JsonObject, KernelMessage, Stream

_BYTES: Final = 8 << 20
_MESSAGES: Final = 10_000
_TEXT_CHARACTERS: Final = 1 << 18
"""Of text that is gathered to one message."""
_MESSAGE_BYTES: Final = 500
_NOTE: Final = "\n[output left out: it was not read fast enough]\n"


class _Text:
    """Text of one stream and one request, which grows until it is taken."""

    def __init__(self, stream: Stream, parent: JsonObject) -> None:
        self.stream = stream
        self.parent = parent
        self.pieces: list[str] = []
        self.size_bytes = 0

    def takes(self, stream: Stream, parent: JsonObject) -> bool:
        """Whether more text of that kind may be added."""
        return self.stream == stream and self.parent is parent and self.size_bytes < _TEXT_CHARACTERS

    def add(self, text: str) -> None:
        self.pieces.append(text)
        self.size_bytes += len(text.encode())


class Outbox:
    """First in, first out. `make` makes the message of text: stream, text, parent header."""

    def __init__(self, make: Callable[[Stream, str, JsonObject], Packed]) -> None:
        self._make = make
        self._items: deque[Packed | _Text] = deque()
        self._bytes = 0
        self._leaves_out = False
        self._closed = False
        self._filled = asyncio.Event()

    def put(self, packed: Packed) -> None:
        """Add a message, or leave it out."""
        size = packed.size_bytes + _MESSAGE_BYTES
        # Without these a client would wait for good for what has ended.
        share = 2 if _ends_something(packed.message) else 1
        if self._has_room(size, share):
            self._append(packed, size)
        elif share == 1:
            self._leave_out(packed.message.parent_header)

    def put_text(self, stream: Stream, text: str, parent: JsonObject) -> None:
        """Add text, to text that waits already if it can be."""
        size = len(text.encode())
        if not self._has_room(size, 1):
            self._leave_out(parent)
            return
        last = self._items[-1] if self._items else None
        if not isinstance(last, _Text) or not last.takes(stream, parent):
            last = _Text(stream, parent)
            self._append(last, _MESSAGE_BYTES)
        last.add(text)
        self._bytes += size

    def _has_room(self, size: int, share: int) -> bool:
        if not self._items:
            return True
        return self._bytes + size <= share * _BYTES and len(self._items) < share * _MESSAGES

    def _append(self, item: Packed | _Text, size: int) -> None:
        self._items.append(item)
        self._bytes += size
        self._filled.set()

    def _leave_out(self, parent: JsonObject) -> None:
        if not self._leaves_out:
            self._leaves_out = True
            note = _Text("stderr", parent)
            note.add(_NOTE)
            self._append(note, _MESSAGE_BYTES + note.size_bytes)

    async def get(self) -> Packed | None:
        """The next message, as soon as there is one; None after the last if it is closed."""
        while not self._items:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        item = self._items.popleft()
        self._bytes -= item.size_bytes + _MESSAGE_BYTES
        if not self._items:
            self._leaves_out = False
        if isinstance(item, _Text):
            return self._make(item.stream, "".join(item.pieces), item.parent)
        return item

    def put_back(self, packed: Packed) -> None:
        """Give back what `get` gave and did not reach anybody."""
        self._items.appendleft(packed)
        self._bytes += packed.size_bytes + _MESSAGE_BYTES
        self._filled.set()

    def close(self) -> None:
        """No message follows."""
        self._closed = True
        self._filled.set()


def _ends_something(message: KernelMessage) -> bool:
    return message.kind in ("status", "input_request") or message.kind.endswith("_reply")
