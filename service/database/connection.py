"""The database under the registry: one transaction at a time, never on the event loop."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    URL,
    Connection,
    CursorResult,
    Engine,
    Insert,
    Result,
    Table,
    Update,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import NullPool

from service.database import migrations
from service.database.errors import MigrationFailed
from service.errors import StartError
from sessions.errors import RegistryUnavailable, StorageFull

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
R = TypeVar("R", bound="DataclassInstance")

Change = tuple[Insert | Update, dict[str, Any]]
"""A statement on a table that was built once, and the values of its parameters."""

_BUSY_TIMEOUT_MS = 5000

_CONNECTIONS = 4
"""To a database that serves several at once: one for each thread."""
_POSTGRESQL = "postgresql"
_DRIVER = "postgresql+psycopg"
_PATIENCE_SEC = 10
"""How long a PostgreSQL that does not answer is waited for. Then it counts as gone."""
_POSTGRESQL_OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": _PATIENCE_SEC,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 1000 * _PATIENCE_SEC,
    "options": f"-c statement_timeout={1000 * _PATIENCE_SEC} -c lock_timeout={1000 * _PATIENCE_SEC}",
    "application_name": "code-interpreter",
}
_DISK_FULL = "53100"
_HELD = "code-interpreter service"
_HOLD_SEC = 20.0
"""How long a service that is stopping may still hold it."""
_POLL_SEC = 0.2
_LOOK_SEC = 2.0
"""Between two looks whether it still does."""

log = logging.getLogger(__name__)


class Database:
    """An engine and the threads that wait for it."""

    def __init__(self, url: str) -> None:
        """``url`` is SQLAlchemy's. Raises ``MigrationFailed`` when it makes no sense."""
        self._engine = make_engine(url)
        # SQLite has one writer at a time: a second thread would only wait, and wake up late.
        threads = 1 if self._engine.dialect.name == "sqlite" else _CONNECTIONS
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="registry")

    @property
    def file(self) -> Path | None:
        """Where SQLite keeps it; None for other databases, and for one in memory."""
        return file_of(self._engine)

    async def exists(self) -> bool:
        """Whether it has tables. Raises ``MigrationFailed`` if it cannot be read."""

        def look() -> bool:
            try:
                return bool(inspect(self._engine).get_table_names())
            except DBAPIError as error:
                raise MigrationFailed(reason_of(error)) from error

        return await self._on_thread(look)

    async def migrate(self) -> None:
        """Bring the schema up to date; errors as ``migrations.upgrade``."""
        await self._on_thread(lambda: migrations.upgrade(self._engine))

    @asynccontextmanager
    async def hold(
        self, in_use: StartError, *, shared: bool, on_lost: Callable[[], None] = lambda: None
    ) -> AsyncIterator[None]:
        """Be the only service on a PostgreSQL until the block ends, or one of those that share it.

        What is held ends with its connection, such as when the server is started anew. It is then taken
        again; `on_lost` is called when another service was quicker.

        Raises ``in_use`` if another goes on holding it otherwise, ``MigrationFailed`` if it is not there.
        """
        if self._engine.dialect.name != _POSTGRESQL:
            yield
            return
        # Their own thread: a server that stands still must not take the registry's.
        with ThreadPoolExecutor(1, thread_name_prefix="claim") as thread:
            claim = _Claim(self._engine.url, shared=shared)
            on_thread = partial(asyncio.get_running_loop().run_in_executor, thread)
            try:
                deadline = time.monotonic() + _HOLD_SEC
                while not await on_thread(claim.take):
                    if time.monotonic() > deadline:
                        raise in_use
                    await asyncio.sleep(_POLL_SEC)
                keeping = asyncio.create_task(_keep(claim, on_thread, on_lost))
                try:
                    yield
                finally:
                    keeping.cancel()
                    await asyncio.wait({keeping})
            finally:
                await on_thread(claim.close)

    async def close(self) -> None:
        """Finish what is under way and let go of the database."""
        await self._on_thread(self._engine.dispose)
        self._threads.shutdown()

    async def run(self, work: Callable[[Session], T]) -> T:
        """Do ``work`` in one transaction; rows it returns can be read afterwards.

        Raises ``RegistryUnavailable`` when the database fails, ``StorageFull`` when its disk is full.
        """

        def transaction() -> T:
            with (
                _database_errors(),
                Session(self._engine, expire_on_commit=False) as session,
                session.begin(),
            ):
                return work(session)

        return await self._on_thread(transaction)

    async def write(self, *changes: Change) -> None:
        """Make changes in one transaction; errors as ``run``.

        For what is written with every execution: a quarter of the CPU time of the same by ``run``,
        and as long as the thread computes, the event loop waits.
        """

        def transaction() -> None:
            with _database_errors(), self._engine.begin() as connection:
                for statement, values in changes:
                    connection.execute(statement, values)

        await self._on_thread(transaction)

    def insert(self, table: Table, *replaced: str) -> Insert:
        """An INSERT for `write`.

        Where several services share the database another may have been quicker: then the row stays
        as it is, but for the columns that are to be ``replaced``.
        """
        if self._engine.dialect.name != _POSTGRESQL:
            return insert(table)
        statement = postgresql.insert(table)
        if not replaced:
            return statement.on_conflict_do_nothing()
        values = {name: statement.excluded[name] for name in replaced}
        return statement.on_conflict_do_update(index_elements=table.primary_key.columns, set_=values)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


class _Claim:
    """An advisory lock of a PostgreSQL, on a connection of its own: it ends with that."""

    def __init__(self, url: URL, *, shared: bool) -> None:
        self._engine = create_engine(
            url,
            hide_parameters=True,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args=_POSTGRESQL_OPTIONS | dict(url.query),
        )
        function = f"pg_try_advisory_lock{'_shared' if shared else ''}"
        self._lock = text(f"SELECT {function}(hashtext('{_HELD}'))")
        self._connection: Connection | None = None

    def take(self) -> bool:
        """Try to have it; whether that is so. Raises ``MigrationFailed`` if the server is not there."""
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            return bool(self._connection.execute(self._lock).scalar())
        except DBAPIError as error:
            self.close()
            raise MigrationFailed(reason_of(error)) from error

    def is_held(self) -> bool:
        """Whether the connection that took it is there."""
        if self._connection is None:
            return False
        try:
            self._connection.execute(select(1))
        except DBAPIError:
            self.close()
            return False
        return True

    def close(self) -> None:
        """Give it back, if it is there."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(DBAPIError):
                connection.invalidate()
                connection.close()


async def _keep(
    claim: _Claim, on_thread: Callable[[Callable[[], bool]], Awaitable[bool]], on_lost: Callable[[], None]
) -> None:
    """Take a claim again when its connection has ended; return when another service has it."""
    while True:
        await asyncio.sleep(_LOOK_SEC)
        if await on_thread(claim.is_held):
            continue
        try:
            if await on_thread(claim.take):
                log.warning("the claim on the registry ended with its connection, and is taken again")
            else:
                on_lost()
                return
        except MigrationFailed as error:
            log.warning("the claim on the registry is gone: %s", error.reason)


def count(result: Result[Any]) -> int:
    """How many rows a statement changed."""
    assert isinstance(result, CursorResult)
    return result.rowcount


def as_record(record_type: type[R], row: DeclarativeBase) -> R:
    """A row as the record with the same field names."""
    return record_type(**{field.name: getattr(row, field.name) for field in fields(record_type)})


def make_engine(url: str) -> Engine:
    """An engine for SQLAlchemy's ``url``; it connects later. Raises ``MigrationFailed``."""
    try:
        parsed = _parsed(url)
        # Its errors are logged, and parameters are what callers have sent.
        if parsed.get_backend_name() in (_POSTGRESQL, "postgres"):
            engine = _postgresql(parsed)
        elif parsed.get_backend_name() == "sqlite":
            engine = create_engine(parsed, hide_parameters=True)
        else:
            raise ValueError(f"{parsed.get_backend_name()} is neither sqlite nor postgresql")
    except (ArgumentError, ImportError, ValueError) as error:
        raise MigrationFailed(str(error)) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _parsed(url: str) -> URL:
    """What is wrong is not shown: a part of the password may have been taken for the port."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            "its URL makes no sense; are all of /:@?# in its password quoted, as %2F is?"
        ) from None


def _postgresql(url: URL) -> Engine:
    """An engine whose connections are looked at before use: the server may have been started anew."""
    if "+" not in url.drivername:
        url = url.set(drivername=_DRIVER)
    if url.drivername != _DRIVER:
        raise ValueError(f"the driver of {_DRIVER}:// is the only one for PostgreSQL here")
    try:
        return create_engine(
            url,
            hide_parameters=True,
            connect_args=_POSTGRESQL_OPTIONS | dict(url.query),
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_pre_ping=True,
        )
    except ImportError:
        raise ImportError("psycopg is not installed: pip install 'code-interpreter[postgresql]'") from None


def reading_engine(url: str) -> Engine:
    """As ``make_engine``, for a look: it takes no write lock, and makes no file where there is none."""
    engine = make_engine(url)
    path = file_of(engine)
    if path is None:
        return engine
    if not path.exists():
        return create_engine("sqlite://")

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_MS / 1000
        )

    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def look_at_server(url: str) -> str | None:
    """What a database server is, and how far; None for SQLite. Raises ``MigrationFailed``."""
    engine = make_engine(url)
    if engine.dialect.name == "sqlite":
        return None
    try:
        with engine.connect() as connection:
            began = time.monotonic()
            connection.execute(select(1)).scalar()
            took_ms = 1000 * (time.monotonic() - began)
            version = ".".join(map(str, engine.dialect.server_version_info or ()))
    except DBAPIError as error:
        raise MigrationFailed(reason_of(error)) from error
    finally:
        engine.dispose()
    return f"{engine.dialect.name} {version}, which answers in {took_ms:.1f} ms"


def reason_of(error: SQLAlchemyError) -> str:
    """What the database or its driver says, in one line."""
    return " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())


def file_of(engine: Engine) -> Path | None:
    """Where SQLite keeps a database; None for other databases, and for one in memory."""
    url = engine.url
    is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if is_file else None


def _prepare_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    # The driver must not begin transactions by itself: it does so too late for DDL and reads.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Any) -> None:
    # Taking the write lock at once: a transaction that reads first and writes later could not
    # wait for another process, it would fail.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        reason = reason_of(error)
        cause = getattr(error, "orig", None)
        is_full = getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        if is_full or getattr(cause, "sqlstate", None) == _DISK_FULL:
            raise StorageFull(reason) from error
        raise RegistryUnavailable(reason) from error
