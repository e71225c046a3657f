"""Pieces of JSON that are sent: their size, and texts as JSON strings."""

import codecs
import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Final

from sessions.records import TEXT_BYTES, StoredText

_SENT_BYTES: Final = 1 << 16


def encode(value: Any) -> bytes:
    """Return a small value as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def as_string(text: StoredText) -> AsyncIterator[bytes]:
    """Yield a text as a JSON string."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    position = 0
    yield b'"'
    while piece := await text.read(position, TEXT_BYTES):
        position += len(piece)
        yield encode(decoder.decode(piece))[1:-1]
    yield b'"'


async def joined(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield the same bytes in fewer pieces."""
    waiting: list[bytes] = []
    size = 0
    async for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _SENT_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)
