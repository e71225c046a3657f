"""The messages that are still to be sent to one client, while the client is slow or not connected.

The queue is bounded. When it is full, further messages are dropped, and the client gets a note about that.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from service.gateway.frames import EncodedMessage
from service.gateway.memory import KernelMemory
from sessions.models import JsonObject, PackedMessage, Stream

_MAX_BYTES: Final = 8 << 20
_MAX_MESSAGES: Final = 10_000
_MAX_STREAM_BYTES: Final = 1 << 18
"""Text is appended to a waiting `stream` message until the message has this size."""
_MESSAGE_OVERHEAD_BYTES: Final = 500
_DROPPED_NOTE: Final = "\n[output left out: it was not read fast enough]\n"


class _StreamText:
    """Text of one stream and one request, which becomes one `stream` message when it is sent."""

    def __init__(self, stream: Stream, parent: JsonObject) -> None:
        self.stream = stream
        self.parent = parent
        self.pieces: list[str] = []
        self.size_bytes = 0
        self.counted_bytes = 0
        """Bytes that count in the memory of the kernel: all but a note of the queue itself."""

    def accepts(self, stream: Stream, parent: JsonObject) -> bool:
        """Return whether text of that stream and request may be appended."""
        return self.stream == stream and self.parent is parent and self.size_bytes < _MAX_STREAM_BYTES

    def append(self, text: str) -> None:
        self.pieces.append(text)
        self.size_bytes += len(text.encode())


class SendQueue:
    """First in, first out. Consecutive text of the same stream and request becomes one message."""

    def __init__(
        self, stream_message: Callable[[Stream, str, JsonObject], EncodedMessage], memory: KernelMemory
    ) -> None:
        """Make an empty queue.

        Args:
            stream_message: called with stream, text and parent header; returns the message.
            memory: limits the bytes in the queues of all clients.
        """
        self._stream_message = stream_message
        self._memory = memory
        self._items: deque[EncodedMessage | _StreamText] = deque()
        self._bytes = 0
        self._is_dropping = False
        """Whether a message was dropped since the queue was last empty."""
        self._closed = False
        self._filled = asyncio.Event()

    def put(self, encoded: EncodedMessage) -> None:
        """Add a message, or drop it if the queue is full."""
        size = encoded.size_bytes + _MESSAGE_OVERHEAD_BYTES
        # Without these messages a client would wait forever, so they may use twice the space.
        is_essential = _ends_a_wait(encoded.message)
        if self._has_room(size, 2 if is_essential else 1) and self._memory.hold(encoded, is_essential):
            self._append(encoded, size)
        elif not is_essential:
            self._note_drop(encoded.parent_header)

    def put_text(self, stream: Stream, text: str, parent: JsonObject) -> None:
        """Add printed text, or drop it if the queue is full."""
        size = len(text.encode())
        if not (self._has_room(size, 1) and self._memory.outputs.take(size)):
            self._note_drop(parent)
            return
        last = self._items[-1] if self._items else None
        if not isinstance(last, _StreamText) or not last.accepts(stream, parent):
            last = _StreamText(stream, parent)
            self._append(last, _MESSAGE_OVERHEAD_BYTES)
        last.append(text)
        last.counted_bytes += size
        self._bytes += size

    def _has_room(self, size: int, shares: int) -> bool:
        """Return whether `size` bytes fit; a message of any size fits into an empty queue."""
        if not self._items:
            return True
        return self._bytes + size <= shares * _MAX_BYTES and len(self._items) < shares * _MAX_MESSAGES

    def _append(self, item: EncodedMessage | _StreamText, size: int) -> None:
        self._items.append(item)
        self._bytes += size
        self._filled.set()

    def _note_drop(self, parent: JsonObject) -> None:
        if not self._is_dropping:
            self._is_dropping = True
            note = _StreamText("stderr", parent)
            note.append(_DROPPED_NOTE)
            self._append(note, _MESSAGE_OVERHEAD_BYTES + note.size_bytes)

    async def get(self) -> EncodedMessage | None:
        """Wait for the next message and remove it. Returns None if the queue is closed and empty."""
        while not self._items:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        item = self._items.popleft()
        self._bytes -= item.size_bytes + _MESSAGE_OVERHEAD_BYTES
        if not self._items:
            self._is_dropping = False
        if isinstance(item, _StreamText):
            self._memory.outputs.give_back(item.counted_bytes)
            return self._stream_message(item.stream, "".join(item.pieces), item.parent)
        return item

    def put_back(self, encoded: EncodedMessage) -> None:
        """Return a message that `get` removed and that could not be sent; it is the next one again."""
        self._items.appendleft(encoded)
        self._bytes += encoded.size_bytes + _MESSAGE_OVERHEAD_BYTES
        self._filled.set()

    def close(self) -> None:
        """Let `get` return None after the last message."""
        self._closed = True
        self._filled.set()

    def clear(self) -> None:
        """Drop all messages."""
        for item in self._items:
            if isinstance(item, _StreamText):
                self._memory.outputs.give_back(item.counted_bytes)
        self._items.clear()
        self._bytes = 0


def _ends_a_wait(message: PackedMessage) -> bool:
    return message.kind in ("status", "input_request") or message.kind.endswith("_reply")
