"""The database of the registry: one transaction at a time, on a thread of its own."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import URL, Connection, CursorResult, Insert, Result, Table, Update, insert, inspect
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session

from service.database import migrations
from service.database.connection import CONNECTIONS, POSTGRESQL, file_of, make_engine, reason_of
from service.database.errors import MigrationFailed
from sessions.errors import RegistryUnavailable, StorageFull

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
R = TypeVar("R", bound="DataclassInstance")

Change = tuple[Insert | Update, dict[str, Any]]
"""A statement that was built once, and the values of its parameters."""

_DISK_FULL: Final = "53100"
"""PostgreSQL's error code for a full disk."""


class Database:
    """A connection pool, and the threads that wait for the database so that the event loop does not.

    The registries (``FileRegistry``, ``SessionRegistry`` and so on) are the tables in it, by subject.
    """

    def __init__(self, url: str) -> None:
        """Make the engine; nothing is connected yet.

        Args:
            url: of SQLAlchemy.

        Raises:
            MigrationFailed: the URL is invalid.
        """
        self._engine = make_engine(url)
        # SQLite has one writer at a time: a second thread would only wait, and wake up late.
        threads = CONNECTIONS if self.is_postgresql else 1
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="registry")

    @property
    def url(self) -> URL:
        """The URL, with the driver that is used."""
        return self._engine.url

    @property
    def is_postgresql(self) -> bool:
        """Whether the database is a PostgreSQL server, not SQLite."""
        return self._engine.dialect.name == POSTGRESQL

    @property
    def file(self) -> Path | None:
        """The path of a SQLite database; None for PostgreSQL, and for one in memory."""
        return file_of(self._engine)

    async def exists(self) -> bool:
        """Return whether the database has tables. Raises ``MigrationFailed`` if it cannot be read."""

        def look() -> bool:
            try:
                return bool(inspect(self._engine).get_table_names())
            except DBAPIError as error:
                raise MigrationFailed(reason_of(error)) from error

        return await self._on_thread(look)

    async def migrate(self) -> None:
        """Bring the schema up to date. Raises the errors of ``migrations.upgrade``."""
        await self._on_thread(lambda: migrations.upgrade(self._engine))

    async def discard_overwritten(self) -> None:
        """Empty SQLite's write-ahead log, which still has the earlier contents of changed pages."""

        def empty_log() -> None:
            connection = self._engine.raw_connection()
            try:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()

        if not self.is_postgresql:
            await self._on_thread(empty_log)

    async def close(self) -> None:
        """Finish the transactions that run, and close all connections."""
        await self._on_thread(self._engine.dispose)
        self._threads.shutdown()

    async def run(self, work: Callable[[Session], T]) -> T:
        """Call ``work`` in one transaction. The rows that it returns can be read afterwards.

        Raises:
            RegistryUnavailable: the database fails.
            StorageFull: the disk of the database is full.
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
        """Execute the changes in one transaction. Raises the errors of ``run``.

        For rows that are written with every execution. It takes a quarter of the CPU time of ``run``, and
        the event loop waits while the thread computes.
        """

        def execute(connection: Connection) -> None:
            for statement, values in changes:
                connection.execute(statement, values)

        await self.connected(execute)

    async def connected(self, work: Callable[[Connection], T]) -> T:
        """Call ``work`` in one transaction, without objects for rows; otherwise as ``write``."""

        def transaction() -> T:
            with _database_errors(), self._engine.begin() as connection:
                return work(connection)

        return await self._on_thread(transaction)

    def insert(self, table: Table, *replaced: str) -> Insert:
        """Return an INSERT for ``write``.

        Where replicas share the database, another one may have inserted the row already. The row then
        stays as it is, except for the columns in ``replaced``.
        """
        if not self.is_postgresql:
            return insert(table)
        statement = postgresql.insert(table)
        if not replaced:
            return statement.on_conflict_do_nothing()
        values = {name: statement.excluded[name] for name in replaced}
        return statement.on_conflict_do_update(index_elements=table.primary_key.columns, set_=values)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def count(result: Result[Any]) -> int:
    """Return the number of rows that a statement changed."""
    assert isinstance(result, CursorResult)
    return result.rowcount


def as_record(record_type: type[R], row: DeclarativeBase) -> R:
    """Return a row as the record that has the same field names."""
    return record_type(**{field.name: getattr(row, field.name) for field in fields(record_type)})


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
