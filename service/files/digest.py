"""Digests of a stored file, taken while it is written and compared before it is served.

A small file is compared as a whole. Of a large file, the size, the first and the last block are compared. So
a download begins at once, and a change in the middle of a large file is not noticed.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from service.files.storage import Content
from sessions.errors import FileDamaged
from sessions.records import StoredFile

SMALL_BYTES: Final = 1024 * 1024
"""Size of the largest file that is compared as a whole, and held in memory while it is sent."""
BLOCK_BYTES: Final = 64 * 1024
"""Size of the first and of the last block of a larger file."""


class Digest:
    """The digests of bytes that arrive in pieces."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._whole = hashlib.sha256()
        self._first = bytearray()
        self._last: deque[bytes] = deque()
        self._last_bytes = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of all bytes, in lower-case hexadecimal."""
        return self._whole.hexdigest()

    @property
    def ends_sha256(self) -> str | None:
        """The SHA-256 of the first and the last block; None if all bytes together are small."""
        if self.size_bytes <= SMALL_BYTES:
            return None
        return _digest(bytes(self._first) + b"".join(self._last)[-BLOCK_BYTES:])

    def update(self, piece: bytes) -> None:
        """Add a piece."""
        self._whole.update(piece)
        self.size_bytes += len(piece)
        if len(self._first) < BLOCK_BYTES:
            self._first += piece[: BLOCK_BYTES - len(self._first)]
        self._last.append(piece[-BLOCK_BYTES:])
        self._last_bytes += len(self._last[-1])
        while self._last_bytes - len(self._last[0]) >= BLOCK_BYTES:
            self._last_bytes -= len(self._last.popleft())


class HeldContent:
    """`service.files.storage.Content` of a file that is in memory."""

    def __init__(self, data: bytes) -> None:
        self.size_bytes = len(data)
        self._data = data

    def close(self) -> None:
        """Do nothing: no file is open."""

    async def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        yield self._data[start:end]


async def verify(content: Content, stored: StoredFile) -> tuple[Content, str | None]:
    """Compare an open file with its digests. Return what to read, and the digest of the first and last block.

    A large file of an earlier version has no such digest, and is read to its end once.

    Raises:
        FileDamaged: the file differs from the one that was stored.
        StorageFailed: the file cannot be read.
    """
    if content.size_bytes != stored.size_bytes:
        raise FileDamaged(stored.file_id)
    if stored.size_bytes <= SMALL_BYTES:
        data = b"".join([chunk async for chunk in content.chunks(0, stored.size_bytes)])
        # A thread costs more than the digest of a few pages.
        found = await asyncio.to_thread(_digest, data) if len(data) > BLOCK_BYTES else _digest(data)
        _require(found == stored.sha256, stored)
        content.close()
        return HeldContent(data), None
    if stored.ends_sha256 is None:
        return content, await _read_through(content, stored)
    first, last = await asyncio.gather(_block(content, 0), _block(content, stored.size_bytes - BLOCK_BYTES))
    _require(_digest(first + last) == stored.ends_sha256, stored)
    return content, stored.ends_sha256


async def _read_through(content: Content, stored: StoredFile) -> str | None:
    digest = Digest()
    async for chunk in content.chunks(0, stored.size_bytes):
        await asyncio.to_thread(digest.update, chunk)
    _require(digest.sha256 == stored.sha256, stored)
    return digest.ends_sha256


async def _block(content: Content, start: int) -> bytes:
    return b"".join([chunk async for chunk in content.chunks(start, start + BLOCK_BYTES)])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _require(same: bool, stored: StoredFile) -> None:
    if not same:
        raise FileDamaged(stored.file_id)
