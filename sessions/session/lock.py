"""The lock of a session: one call at a time, in order of arrival."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sessions.errors import SessionBusy


class SessionLock:
    """Gives a session to one call after the other.

    At most `queue_size` calls wait in the queue, each for at most `queue_timeout_sec` seconds.
    """

    def __init__(self, session_id: str, queue_size: int, queue_timeout_sec: float) -> None:
        self._session_id = session_id
        self._queue_size = queue_size
        self._queue_timeout_sec = queue_timeout_sec
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._idle_work: Callable[[], Awaitable[None]] | None = None
        self._idle_task: asyncio.Future[None] | None = None
        self._closed: Exception | None = None

    @property
    def is_taken(self) -> bool:
        """Whether a call holds the lock."""
        return self._lock.locked()

    async def acquire(self) -> None:
        """Wait for the lock, as long as it takes. Raises the error that the lock was closed with."""
        await self._lock.acquire()
        if self._closed is not None:
            self._lock.release()
            raise self._closed
        self._stop_idle_work()

    async def acquire_limited(self) -> None:
        """Wait for the lock, within the limits of the queue.

        Raises:
            SessionBusy: too many calls wait, or the wait took too long.
            Exception: the error that the lock was closed with.
        """
        if self.is_taken and self._waiting >= self._queue_size:
            raise SessionBusy(self._session_id)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._queue_timeout_sec):
                await self.acquire()
        except TimeoutError:
            raise SessionBusy(self._session_id) from None
        finally:
            self._waiting -= 1

    def release(self) -> None:
        """Release the lock, so that the next waiting call gets the session."""
        self._lock.release()
        self._start_idle_work()

    def close(self, failure: Exception) -> None:
        """Raise `failure` in the calls that wait, and in those that come."""
        self._closed = failure

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Hold the lock during the block. Wait for it as `acquire` does."""
        await self.acquire()
        try:
            yield
        finally:
            self.release()

    @asynccontextmanager
    async def hold_limited(self) -> AsyncIterator[None]:
        """Hold the lock during the block. Wait for it as `acquire_limited` does."""
        await self.acquire_limited()
        try:
            yield
        finally:
            self.release()

    def run_while_idle(self, work: Callable[[], Awaitable[None]] | None) -> None:
        """Run `work` whenever no call holds the lock; cancel it when a call gets the lock. None: no work."""
        self._stop_idle_work()
        self._idle_work = work
        if not self.is_taken:
            self._start_idle_work()

    def _start_idle_work(self) -> None:
        if self._idle_work is not None:
            self._idle_task = asyncio.ensure_future(self._idle_work())

    def _stop_idle_work(self) -> None:
        if self._idle_task is not None:
            self._idle_task.cancel()
            self._idle_task = None
