"""Whose turn it is in a session: one call at a time, in order of arrival."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sessions.errors import SessionBusy


class SessionLock:
    """Given to one caller after the other; at most `queue_size` wait, for `queue_timeout_sec` at most."""

    def __init__(self, session_id: str, queue_size: int, queue_timeout_sec: float) -> None:
        self._session_id = session_id
        self._queue_size = queue_size
        self._queue_timeout_sec = queue_timeout_sec
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._between: Callable[[], Awaitable[None]] | None = None
        self._working: asyncio.Future[None] | None = None
        self._closed: Exception | None = None

    @property
    def is_taken(self) -> bool:
        """Whether it is somebody's."""
        return self._lock.locked()

    async def take(self, *, patiently: bool = False) -> None:
        """Wait until it is nobody else's; `end` gives it back.

        Raises:
            SessionBusy: too many wait, or it takes too long; never for who waits `patiently`.
            Exception: what it was closed with.
        """
        if patiently:
            await self._take()
            return
        if self.is_taken and self._waiting >= self._queue_size:
            raise SessionBusy(self._session_id)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._queue_timeout_sec):
                await self._take()
        except TimeoutError:
            raise SessionBusy(self._session_id) from None
        finally:
            self._waiting -= 1

    async def _take(self) -> None:
        await self._lock.acquire()
        if self._closed is not None:
            self._lock.release()
            raise self._closed
        self._stop_working()

    def end(self) -> None:
        """It is the next one's."""
        self._lock.release()
        self._work()

    def close(self, failure: Exception) -> None:
        """Nobody gets it any more: who waits, and who comes, gets `failure`."""
        self._closed = failure

    @asynccontextmanager
    async def own(self, *, patiently: bool = False) -> AsyncIterator[None]:
        """`take` it for as long as the block."""
        await self.take(patiently=patiently)
        try:
            yield
        finally:
            self.end()

    def have_done_between(self, work: Callable[[], Awaitable[None]] | None) -> None:
        """Have something done while it is nobody's; it is cancelled when it is somebody's again."""
        self._stop_working()
        self._between = work
        if not self.is_taken:
            self._work()

    def _work(self) -> None:
        if self._between is not None:
            self._working = asyncio.ensure_future(self._between())

    def _stop_working(self) -> None:
        if self._working is not None:
            self._working.cancel()
            self._working = None
