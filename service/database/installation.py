"""The registry as a whole: its id, and the deletion of old rows."""

import uuid
from typing import Final

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.database.database import Database, count
from service.database.tables import Base, ContainerRow, ExecutionRow, InstanceRow, SessionRow
from sessions.errors import RegistryUnavailable

_KEY: Final = "instance_id"
_ROWS_AT_ONCE: Final = 500
"""Rows that one transaction deletes. The cells of a session are deleted with it."""


async def registry_id(database: Database) -> str:
    """Return the id of the registry, which the first start makes at random. Errors as ``Database.run``."""

    def read_or_make(session: Session) -> str:
        row = session.get(InstanceRow, _KEY)
        if row is None:
            row = InstanceRow(key=_KEY, value=uuid.uuid4().hex)
            session.add(row)
        return row.value

    try:
        return await database.run(read_or_make)
    except RegistryUnavailable as error:
        if not isinstance(error.__cause__, IntegrityError):
            raise
        # Another process has made the id at the same time.
        return await database.run(read_or_make)


async def prune(database: Database, before: float) -> int:
    """Delete the executions, containers and sessions that ended before a time; return their number."""
    return (
        await _prune(database, ExecutionRow, ExecutionRow.execution_id, ExecutionRow.finished_at < before)
        + await _prune(database, ContainerRow, ContainerRow.container_id, ContainerRow.removed_at < before)
        + await _prune(database, SessionRow, SessionRow.session_id, SessionRow.ended_at < before)
    )


async def _prune(
    database: Database, rows: type[Base], key: InstrumentedAttribute[str], old: ColumnElement[bool]
) -> int:
    """Delete rows in small transactions, so that other writers wait for a short time only."""
    some = delete(rows).where(key.in_(select(key).where(old).limit(_ROWS_AT_ONCE)))
    some = some.execution_options(synchronize_session=False)
    total = deleted = await database.run(lambda session: count(session.execute(some)))
    while deleted == _ROWS_AT_ONCE:
        deleted = await database.run(lambda session: count(session.execute(some)))
        total += deleted
    return total
