"""A lock on a PostgreSQL database: one service at a time, or several that are replicas."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from sqlalchemy import URL, Connection, select, text
from sqlalchemy.exc import DBAPIError

from service.database.connection import make_single_connection_engine, reason_of
from service.database.database import Database
from service.database.errors import MigrationFailed
from service.errors import StartError

log = logging.getLogger(__name__)

_NAME: Final = "code-interpreter service"
_WAIT_SEC: Final = 20.0
"""Seconds for which a service that is stopping may still hold the lock."""
_POLL_SEC: Final = 0.2
_CHECK_SEC: Final = 2.0
"""Seconds between two checks that the lock is still held."""


@asynccontextmanager
async def hold_database(
    database: Database, in_use: StartError, *, shared: bool, on_lost: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """Hold the lock on a PostgreSQL database until the block ends; do nothing for SQLite.

    The server releases the lock when its connection ends, such as at a restart of the server. The lock is
    then taken again.

    Args:
        shared: other services may hold the lock as well, if they also share it.
        on_lost: called when another service has taken the lock after the connection ended.

    Raises:
        StartError: ``in_use``; another service holds the lock for longer than 20 seconds.
        MigrationFailed: the server cannot be reached.
    """
    if not database.is_postgresql:
        yield
        return
    # A thread of its own: a server that hangs must not block the registry's threads.
    with ThreadPoolExecutor(1, thread_name_prefix="service-lock") as thread:
        lock = _AdvisoryLock(database.url, shared=shared)
        on_thread = partial(asyncio.get_running_loop().run_in_executor, thread)
        try:
            deadline = time.monotonic() + _WAIT_SEC
            reported = False
            while not await on_thread(lock.take):
                if not reported:
                    log.warning("%s Waiting up to %.0f s for it to stop.", in_use, _WAIT_SEC)
                    reported = True
                if time.monotonic() > deadline:
                    raise in_use
                await asyncio.sleep(_POLL_SEC)
            keeping = asyncio.create_task(_keep(lock, on_thread, on_lost))
            try:
                yield
            finally:
                keeping.cancel()
                await asyncio.wait({keeping})
        finally:
            await on_thread(lock.close)


class _AdvisoryLock:
    """An advisory lock of PostgreSQL, on a connection of its own."""

    def __init__(self, url: URL, *, shared: bool) -> None:
        self._engine = make_single_connection_engine(url)
        function = f"pg_try_advisory_lock{'_shared' if shared else ''}"
        self._lock = text(f"SELECT {function}(hashtext('{_NAME}'))")
        self._connection: Connection | None = None

    def take(self) -> bool:
        """Try to take the lock, and return whether it is held. Raises ``MigrationFailed``."""
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            return bool(self._connection.execute(self._lock).scalar())
        except DBAPIError as error:
            self.close()
            raise MigrationFailed(reason_of(error)) from error

    def is_held(self) -> bool:
        """Return whether the connection that took the lock is open."""
        if self._connection is None:
            return False
        try:
            self._connection.execute(select(1))
        except DBAPIError:
            self.close()
            return False
        return True

    def close(self) -> None:
        """Release the lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(DBAPIError):
                connection.invalidate()
                connection.close()


async def _keep(
    lock: _AdvisoryLock,
    on_thread: Callable[[Callable[[], bool]], Awaitable[bool]],
    on_lost: Callable[[], None],
) -> None:
    """Take the lock again when its connection has ended; return when another service has it."""
    while True:
        await asyncio.sleep(_CHECK_SEC)
        if await on_thread(lock.is_held):
            continue
        try:
            if await on_thread(lock.take):
                log.warning("the lock on the registry ended with its connection, and is taken again")
            else:
                on_lost()
                return
        except MigrationFailed as error:
            log.warning("the lock on the registry is gone: %s", error.reason)
