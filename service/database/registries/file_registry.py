"""Rows of stored files."""

from collections.abc import Collection
from dataclasses import asdict
from typing import Final

from sqlalchemy import delete, func, insert, or_, select, tuple_, update
from sqlalchemy.orm import Session

from service.database.database import Database, as_record, count
from service.database.registries.cursor import make_cursor, read_cursor
from service.database.registries.records import FilePage
from service.database.tables import FileRow, table_of
from sessions.errors import FileNotFound
from sessions.records import StoredFile

_ADD: Final = insert(table_of(FileRow))
_IDS_PER_QUERY: Final = 500
"""Databases limit the number of values in one statement."""


class FileRegistry:
    """Stored files in the registry. Each method is one transaction, with the errors of ``Database.run``."""

    def __init__(self, database: Database) -> None:
        self._run = database.run
        self._write = database.write

    async def add(self, file: StoredFile) -> None:
        """Add the row of a file whose bytes are stored."""
        await self._write((_ADD, asdict(file)))

    async def get(self, file_id: str, owner: str) -> StoredFile:
        """Return the owner's file of this id, also an expired one. Raises ``FileNotFound``."""
        query = select(FileRow).where(FileRow.file_id == file_id, FileRow.owner == owner)
        row = await self._run(lambda session: session.scalar(query))
        if row is None:
            raise FileNotFound(file_id)
        return as_record(StoredFile, row)

    async def page(self, owner: str, limit: int, after: str | None = None, *, now: float = 0) -> FilePage:
        """Return a page of the owner's files that have not expired at ``now``, oldest first.

        Args:
            limit: the most files in the page.
            after: ``next`` of the page before.
            now: seconds since the epoch.

        Raises:
            InvalidCursor: no page has the ``next`` that ``after`` names.
        """
        position = tuple_(FileRow.created_at, FileRow.file_id)
        query = select(FileRow).order_by(FileRow.created_at, FileRow.file_id)
        query = query.where(
            FileRow.owner == owner, or_(FileRow.expires_at.is_(None), FileRow.expires_at > now)
        )
        if after is not None:
            created_at, identifier = read_cursor(after)
            query = query.where(position > (created_at, str(identifier)))
        query = query.limit(limit + 1)
        rows = await self._run(lambda session: session.scalars(query).all())
        more = len(rows) > limit
        files = tuple(as_record(StoredFile, row) for row in rows[:limit])
        return FilePage(files, make_cursor(files[-1].created_at, files[-1].file_id) if more else None)

    async def set_ends(self, file_id: str, ends_sha256: str | None) -> None:
        """Write the digest of a file's first and last block; do nothing if there is no such file."""
        change = update(FileRow).where(FileRow.file_id == file_id).values(ends_sha256=ends_sha256)
        await self._run(lambda session: session.execute(change))

    async def delete(self, file_id: str) -> StoredFile | None:
        """Delete the row of a file and return it; None if there is no such row."""

        def change(session: Session) -> StoredFile | None:
            row = session.get(FileRow, file_id)
            # On PostgreSQL another transaction may delete the row between the two statements.
            if row is None or not count(session.execute(delete(FileRow).where(FileRow.file_id == file_id))):
                return None
            return as_record(StoredFile, row)

        return await self._run(change)

    async def sizes(self) -> dict[str, tuple[int, int]]:
        """Return the number of files and their total size in bytes, by owner."""
        query = select(FileRow.owner, func.count(), func.sum(FileRow.size_bytes)).group_by(FileRow.owner)
        rows = await self._run(lambda session: session.execute(query).all())
        return {owner: (files, int(size)) for owner, files, size in rows}

    async def size_of(self, owner: str) -> tuple[int, int]:
        """Return the number of an owner's files and their total size in bytes."""
        query = select(func.count(), func.coalesce(func.sum(FileRow.size_bytes), 0))
        query = query.where(FileRow.owner == owner)
        files, size = await self._run(lambda session: session.execute(query).one())
        return files, int(size)

    async def expired(self, now: float) -> list[str]:
        """Return the ids of the files that have expired at ``now``."""
        query = select(FileRow.file_id).where(FileRow.expires_at <= now)
        return await self._run(lambda session: list(session.scalars(query)))

    async def all_ids(self) -> set[str]:
        """Return the ids of all files, the expired ones included."""
        return await self._run(lambda session: set(session.scalars(select(FileRow.file_id))))

    async def known(self, file_ids: Collection[str]) -> set[str]:
        """Return those of ``file_ids`` that have a row."""
        ids = list(file_ids)

        def look_up(session: Session) -> set[str]:
            found: set[str] = set()
            for start in range(0, len(ids), _IDS_PER_QUERY):
                some = ids[start : start + _IDS_PER_QUERY]
                found.update(session.scalars(select(FileRow.file_id).where(FileRow.file_id.in_(some))))
            return found

        return await self._run(look_up)
