"""The registry: what the service must still know after a restart. The only module that does SQL.

Every method is one transaction, done on a thread so that the event loop never waits for the
database.
"""

import asyncio
import base64
import math
import sqlite3
import uuid
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    CursorResult,
    Engine,
    Result,
    create_engine,
    delete,
    event,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session

from service import migrations
from service.errors import (
    FileNotFound,
    InvalidCursor,
    MigrationFailed,
    RegistryUnavailable,
    StorageFull,
)
from service.records import ContainerRecord, ExecutionRecord, FilePage, StoredFile
from service.tables import ContainerRow, ExecutionRow, FileRow, InstanceRow

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
R = TypeVar("R", bound="DataclassInstance")

_BUSY_TIMEOUT_MS = 5000
_INSTANCE_ID = "instance_id"
# Databases limit the number of values in one statement.
_IDS_PER_QUERY = 500


class Registry:
    """A database of files, executions and containers.

    Every method raises ``RegistryUnavailable`` when the database fails, and ``StorageFull`` when
    its disk is full.
    """

    def __init__(self, url: str) -> None:
        """``url`` is SQLAlchemy's. Raises ``MigrationFailed`` when it makes no sense."""
        self._engine = make_engine(url)
        # SQLite has one writer at a time: a second thread would only wait, and wake up late.
        threads = 1 if self._engine.dialect.name == "sqlite" else 4
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="registry")

    async def migrate(self) -> None:
        """Bring the schema up to date; errors as ``migrations.upgrade``."""
        await self._on_thread(lambda: migrations.upgrade(self._engine))

    async def close(self) -> None:
        """Finish what is under way and let go of the database."""
        await self._on_thread(self._engine.dispose)
        self._threads.shutdown()

    async def instance_id(self, configured: str | None = None) -> str:
        """The name of this installation: the configured one, or one made once and kept."""
        if configured is not None:
            return configured

        def read_or_make(session: Session) -> str:
            row = session.get(InstanceRow, _INSTANCE_ID)
            if row is None:
                row = InstanceRow(key=_INSTANCE_ID, value=uuid.uuid4().hex)
                session.add(row)
            return row.value

        try:
            return await self._run(read_or_make)
        except RegistryUnavailable as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
            # Another process was quicker, so now there is one to read.
            return await self._run(read_or_make)

    # Files

    async def add_file(self, file: StoredFile) -> None:
        """Remember a file whose bytes are on disk."""
        await self._run(lambda session: session.add(FileRow(**asdict(file))))

    async def get_file(self, file_id: str) -> StoredFile:
        """The file of this id, also when it has expired. Raises ``FileNotFound``."""
        row = await self._run(lambda session: session.get(FileRow, file_id))
        if row is None:
            raise FileNotFound(file_id)
        return _record(StoredFile, row)

    async def list_files(
        self, limit: int | None = None, after: str | None = None, *, now: float = 0
    ) -> FilePage:
        """Files that have not expired at ``now``, oldest first.

        Args:
            limit: the most files in the page; None for all there are.
            after: ``next`` of the page before; raises ``InvalidCursor`` if it is not one.
        """
        position = tuple_(FileRow.created_at, FileRow.file_id)
        query = select(FileRow).order_by(FileRow.created_at, FileRow.file_id)
        query = query.where(or_(FileRow.expires_at.is_(None), FileRow.expires_at > now))
        if after is not None:
            query = query.where(position > _read_cursor(after))
        if limit is not None:
            query = query.limit(limit + 1)
        rows = await self._run(lambda session: session.scalars(query).all())
        more = limit is not None and len(rows) > limit
        files = tuple(_record(StoredFile, row) for row in rows[:limit])
        return FilePage(files, _make_cursor(files[-1]) if more else None)

    async def delete_file(self, file_id: str) -> bool:
        """Forget a file; False if it was not known."""
        return await self._run(lambda session: _delete_file(session, file_id))

    async def expired_files(self, now: float) -> list[str]:
        """Ids of the files that have expired at ``now``."""
        query = select(FileRow.file_id).where(FileRow.expires_at <= now)
        return await self._run(lambda session: list(session.scalars(query)))

    async def all_file_ids(self) -> set[str]:
        """Ids of all files, the expired ones included."""
        return await self._run(lambda session: set(session.scalars(select(FileRow.file_id))))

    async def known(self, file_ids: Collection[str]) -> set[str]:
        """Those of ``file_ids`` that are files of the registry."""
        ids = list(file_ids)

        def look_up(session: Session) -> set[str]:
            found: set[str] = set()
            for start in range(0, len(ids), _IDS_PER_QUERY):
                some = ids[start : start + _IDS_PER_QUERY]
                found.update(session.scalars(select(FileRow.file_id).where(FileRow.file_id.in_(some))))
            return found

        return await self._run(look_up)

    # Executions and containers

    async def add_execution(self, execution: ExecutionRecord) -> None:
        """Remember how an execution ended."""
        await self._run(lambda session: session.add(ExecutionRow(**asdict(execution))))

    async def add_container(self, container: ContainerRecord) -> None:
        """Remember a container, so that a later process can find or remove it."""
        await self._run(lambda session: session.add(ContainerRow(**asdict(container))))

    async def container_removed(self, container_id: str, at: float) -> None:
        """Note that a container is gone; unknown ones and those long gone are left alone."""
        change = (
            update(ContainerRow)
            .where(ContainerRow.container_id == container_id, ContainerRow.removed_at.is_(None))
            .values(removed_at=at, state="removed")
        )
        await self._run(lambda session: session.execute(change))

    async def live_containers(self, instance_id: str) -> list[ContainerRecord]:
        """The containers of an installation that are not known to be gone, oldest first."""
        query = (
            select(ContainerRow)
            .where(ContainerRow.instance_id == instance_id, ContainerRow.removed_at.is_(None))
            .order_by(ContainerRow.created_at, ContainerRow.container_id)
        )
        rows = await self._run(lambda session: session.scalars(query).all())
        return [_record(ContainerRecord, row) for row in rows]

    async def prune(self, before: float) -> int:
        """Forget executions that ended and containers that went before a time: how many."""

        def forget(session: Session) -> int:
            old_executions = delete(ExecutionRow).where(ExecutionRow.finished_at < before)
            old_containers = delete(ContainerRow).where(ContainerRow.removed_at < before)
            return sum(_count(session.execute(statement)) for statement in (old_executions, old_containers))

        return await self._run(forget)

    async def _run(self, work: Callable[[Session], T]) -> T:
        """Do ``work`` in one transaction on a thread of the registry's own."""

        def transaction() -> T:
            with (
                _database_errors(),
                Session(self._engine, expire_on_commit=False) as session,
                session.begin(),
            ):
                return work(session)

        return await self._on_thread(transaction)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def make_engine(url: str) -> Engine:
    """An engine for SQLAlchemy's ``url``; it connects later. Raises ``MigrationFailed``."""
    try:
        engine = create_engine(url)
    except (ArgumentError, ImportError, ValueError) as error:
        raise MigrationFailed(str(error)) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


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
        reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        if getattr(getattr(error, "orig", None), "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StorageFull(reason) from error
        raise RegistryUnavailable(reason) from error


def _delete_file(session: Session, file_id: str) -> bool:
    return _count(session.execute(delete(FileRow).where(FileRow.file_id == file_id))) > 0


def _count(result: Result[Any]) -> int:
    """How many rows a statement changed."""
    assert isinstance(result, CursorResult)
    return result.rowcount


def _record(record_type: type[R], row: DeclarativeBase) -> R:
    """A row as the record with the same field names."""
    return record_type(**{field.name: getattr(row, field.name) for field in fields(record_type)})


def _make_cursor(last: StoredFile) -> str:
    """Where the page after ``last`` begins; callers should see nothing in it."""
    text = f"{last.created_at!r} {last.file_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[float, str]:
    try:
        padding = "=" * (-len(cursor) % 4)
        text = base64.b64decode(cursor + padding, altchars="-_", validate=True).decode("ascii")
        created_at, file_id = text.split(" ")
        position = (float(created_at), str(uuid.UUID(file_id)))
    except ValueError:
        raise InvalidCursor(cursor) from None
    if not math.isfinite(position[0]):
        raise InvalidCursor(cursor)
    return position
