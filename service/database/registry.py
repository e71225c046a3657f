"""The registry: what the service must still know after a restart.

Sessions: ``session_registry``; executions: ``execution_registry``.

Every method is one transaction, done on a thread so that the event loop never waits for the
database.
"""

import uuid
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import ColumnElement, bindparam, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.database.connection import Database, as_record, count, make_engine
from service.database.cursor import make_cursor, read_cursor
from service.database.records import FilePage
from service.database.tables import (
    Base,
    ContainerRow,
    ExecutionRow,
    FileRow,
    InstanceRow,
    SessionRow,
    table_of,
)
from service.errors import StartError
from sessions.errors import FileNotFound, RegistryUnavailable
from sessions.records import ContainerRecord, StoredFile

__all__ = ["Registry", "make_engine"]

_INSTANCE_ID = "instance_id"
_ADD_FILE = insert(table_of(FileRow))
_ADD_CONTAINER = insert(table_of(ContainerRow))
_CONTAINER_REMOVED = (
    update(table_of(ContainerRow))
    .where(ContainerRow.container_id == bindparam("id"), ContainerRow.removed_at.is_(None))
    .values(removed_at=bindparam("at"), state="removed")
)
# Databases limit the number of values in one statement.
_IDS_PER_QUERY = 500
_ROWS_AT_ONCE = 500
"""Deleted in one transaction. A session's cells go with it."""


class Registry:
    """A database of files and containers; ``SessionRegistry`` and ``ExecutionRegistry`` are its other parts.

    Every method raises ``RegistryUnavailable`` when the database fails, and ``StorageFull`` when
    its disk is full.
    """

    def __init__(self, url: str) -> None:
        """``url`` is SQLAlchemy's. Raises ``MigrationFailed`` when it makes no sense."""
        self.database = Database(url)
        self._run = self.database.run
        self._write = self.database.write

    @property
    def file(self) -> Path | None:
        """Where it is, if it is a file."""
        return self.database.file

    def hold(
        self, in_use: StartError, *, shared: bool, on_lost: Callable[[], None] = lambda: None
    ) -> AbstractAsyncContextManager[None]:
        """As ``Database.hold``."""
        return self.database.hold(in_use, shared=shared, on_lost=on_lost)

    async def exists(self) -> bool:
        """Whether there is anything in the database. Raises ``MigrationFailed`` if it cannot be read."""
        return await self.database.exists()

    async def migrate(self) -> None:
        """Bring the schema up to date; errors as ``migrations.upgrade``."""
        await self.database.migrate()

    async def close(self) -> None:
        """Finish what is under way and let go of the database."""
        await self.database.close()

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
        await self._write((_ADD_FILE, asdict(file)))

    async def get_file(self, file_id: str, owner: str) -> StoredFile:
        """The owner's file of this id, also when it has expired. Raises ``FileNotFound``."""
        query = select(FileRow).where(FileRow.file_id == file_id, FileRow.owner == owner)
        row = await self._run(lambda session: session.scalar(query))
        if row is None:
            raise FileNotFound(file_id)
        return as_record(StoredFile, row)

    async def list_files(
        self, owner: str, limit: int | None = None, after: str | None = None, *, now: float = 0
    ) -> FilePage:
        """The owner's files that have not expired at ``now``, oldest first.

        Args:
            limit: the most files in the page; None for all there are.
            after: ``next`` of the page before; raises ``InvalidCursor`` if it is not one.
        """
        position = tuple_(FileRow.created_at, FileRow.file_id)
        query = select(FileRow).order_by(FileRow.created_at, FileRow.file_id)
        query = query.where(
            FileRow.owner == owner, or_(FileRow.expires_at.is_(None), FileRow.expires_at > now)
        )
        if after is not None:
            created_at, identifier = read_cursor(after)
            query = query.where(position > (created_at, str(identifier)))
        if limit is not None:
            query = query.limit(limit + 1)
        rows = await self._run(lambda session: session.scalars(query).all())
        more = limit is not None and len(rows) > limit
        files = tuple(as_record(StoredFile, row) for row in rows[:limit])
        return FilePage(files, make_cursor(files[-1].created_at, files[-1].file_id) if more else None)

    async def delete_file(self, file_id: str) -> StoredFile | None:
        """Forget a file and return it; None if it was not known."""
        return await self._run(lambda session: _delete_file(session, file_id))

    async def stored_bytes(self) -> dict[str, tuple[int, int]]:
        """For each owner, how many files there are and their bytes together."""
        query = select(FileRow.owner, func.count(), func.sum(FileRow.size_bytes)).group_by(FileRow.owner)
        rows = await self._run(lambda session: session.execute(query).all())
        return {owner: (files, int(size)) for owner, files, size in rows}

    async def stored_by(self, owner: str) -> tuple[int, int]:
        """How many files an owner has, and their bytes together."""
        query = select(func.count(), func.coalesce(func.sum(FileRow.size_bytes), 0))
        query = query.where(FileRow.owner == owner)
        files, size = await self._run(lambda session: session.execute(query).one())
        return files, int(size)

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

    # Containers

    async def add_container(self, container: ContainerRecord) -> None:
        """Remember a container, so that a later process can find or remove it."""
        await self._write((_ADD_CONTAINER, asdict(container)))

    async def container_removed(self, container_id: str, at: float) -> None:
        """Note that a container is gone; unknown ones and those long gone are left alone."""
        await self._write((_CONTAINER_REMOVED, {"id": container_id, "at": at}))

    async def get_container(self, container_id: str) -> ContainerRecord | None:
        """The container of this id, also after it is gone; None if it was never known."""
        row = await self._run(lambda session: session.get(ContainerRow, container_id))
        return None if row is None else as_record(ContainerRecord, row)

    async def update_container_key(self, container_id: str, kernel_key: str) -> None:
        """Note that a new kernel in a container signs with ``kernel_key``."""
        change = (
            update(ContainerRow)
            .where(ContainerRow.container_id == container_id)
            .values(kernel_key=kernel_key)
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
        return [as_record(ContainerRecord, row) for row in rows]

    async def prune(self, before: float) -> int:
        """Forget executions, containers and sessions that ended before a time: how many.

        A session's cells go with it.
        """
        return (
            await self._prune(ExecutionRow, ExecutionRow.execution_id, ExecutionRow.finished_at < before)
            + await self._prune(ContainerRow, ContainerRow.container_id, ContainerRow.removed_at < before)
            + await self._prune(SessionRow, SessionRow.session_id, SessionRow.ended_at < before)
        )

    async def _prune(
        self, rows: type[Base], key: InstrumentedAttribute[str], old: ColumnElement[bool]
    ) -> int:
        """Delete rows, some at a time: who writes meanwhile waits for those alone."""
        some = delete(rows).where(key.in_(select(key).where(old).limit(_ROWS_AT_ONCE)))
        some = some.execution_options(synchronize_session=False)
        total = gone = await self._run(lambda session: count(session.execute(some)))
        while gone == _ROWS_AT_ONCE:
            gone = await self._run(lambda session: count(session.execute(some)))
            total += gone
        return total


def _delete_file(session: Session, file_id: str) -> StoredFile | None:
    row = session.get(FileRow, file_id)
    # Elsewhere than on SQLite another transaction may be quicker.
    if row is None or not count(session.execute(delete(FileRow).where(FileRow.file_id == file_id))):
        return None
    return as_record(StoredFile, row)
