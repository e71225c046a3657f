"""A file on its way into an object storage."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Protocol

from service.files.digest import Digest

PART_BYTES: Final = 5 * 1024 * 1024
"""Size of a part, the smallest that S3 takes. A smaller file is put in one request."""
_HASH_ON_THREAD: Final = 64 * 1024
"""Pieces larger than this are hashed on a thread."""


class Abandoned(Exception):
    """Raised inside the request of a draft that was discarded, so that the parts sent so far are removed."""


class Objects(Protocol):
    """The part of the storage that a draft uses."""

    async def put(self, key: str, content: bytes | AsyncIterator[bytes], filename: str) -> None:
        """Store an object, in parts if the content is an iterator."""

    def discard(self, key: str, before: "asyncio.Task[None] | None") -> None:
        """Remove an object in the background, once the task `before` has ended."""


class ObjectDraft:
    """`service.files.storage.Draft` of one object.

    The first part begins a request, which takes the parts from a queue. A small file has no parts: it is
    put when it is published.
    """

    def __init__(self, storage: Objects, key: str, filename: str) -> None:
        self._storage = storage
        self._key = key
        self._filename = filename
        self._digest = Digest()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._parts: asyncio.Queue[list[bytes] | None] = asyncio.Queue(1)
        self._request: asyncio.Task[None] | None = None
        self._abandoned = asyncio.Event()
        self._is_begun = False

    @property
    def size_bytes(self) -> int:
        return self._digest.size_bytes

    @property
    def sha256(self) -> str:
        return self._digest.sha256

    @property
    def ends_sha256(self) -> str | None:
        return self._digest.ends_sha256

    async def write(self, block: list[bytes]) -> None:
        for piece in block:
            self._held_bytes += len(piece)
            # hashlib releases the GIL, but a thread pays off for large pieces only.
            if len(piece) > _HASH_ON_THREAD:
                await asyncio.to_thread(self._digest.update, piece)
            else:
                self._digest.update(piece)
        self._held += block
        if self._held_bytes >= PART_BYTES:
            await self._send_part()

    async def publish(self, rest: list[bytes]) -> None:
        await self.write(rest)
        if self._request is None:
            self._is_begun = True
            await self._storage.put(self._key, b"".join(self._held), self._filename)
            return
        await self._send_part()
        await self._offer(None)
        await asyncio.shield(self._request)

    async def _send_part(self) -> None:
        """Send the bytes held so far as a part, and begin the request with the first one."""
        held, self._held, self._held_bytes = self._held, [], 0
        if self._request is None:
            self._is_begun = True
            putting = self._storage.put(self._key, self._stream(), self._filename)
            self._request = asyncio.create_task(putting)
        await self._offer(held)

    async def _offer(self, part: list[bytes] | None) -> None:
        """Wait until the request takes a part. Raises the error of a request that failed."""
        assert self._request is not None
        offering = asyncio.create_task(self._parts.put(part))
        try:
            await asyncio.wait({offering, self._request}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            offering.cancel()
        if self._request.done():
            self._request.result()

    async def _stream(self) -> AsyncIterator[bytes]:
        while True:
            taking = asyncio.create_task(self._parts.get())
            giving_up = asyncio.create_task(self._abandoned.wait())
            await asyncio.wait({taking, giving_up}, return_when=asyncio.FIRST_COMPLETED)
            giving_up.cancel()
            if self._abandoned.is_set():
                taking.cancel()
                # The error makes obstore remove the parts that were sent.
                raise Abandoned
            part = taking.result()
            if part is None:
                return
            yield b"".join(part)

    def discard(self) -> None:
        self._abandoned.set()
        if self._request is not None:
            self._request.add_done_callback(_ignore_outcome)
        if self._is_begun:
            self._storage.discard(self._key, self._request)


def _ignore_outcome(task: "asyncio.Task[None]") -> None:
    """Retrieve the exception, so that asyncio does not report it: the draft was discarded."""
    if not task.cancelled():
        task.exception()
