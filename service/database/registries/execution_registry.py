"""The executions in the registry: times, outcomes and resources."""

from sqlalchemy import ColumnElement, Connection, Insert, case, func, select, tuple_
from sqlalchemy.orm import Session, defer

from service.database.database import Database, as_record
from service.database.registries.cursor import read_cursor, rows_in_page
from service.database.registries.history import HistoryQuota, kept_code_bytes
from service.database.tables import CellRow, ExecutionRow, SessionRow, table_of
from sessions.records import ExecutionRecord, Outcome


class ExecutionRegistry:
    """The executions in the registry. Each method is one transaction, with the errors of ``Database.run``."""

    def __init__(self, database: Database, quota: HistoryQuota | None = None) -> None:
        """Limit the kept code of each owner by ``quota``; without one there is no limit."""
        self._quota = quota or HistoryQuota()
        self._adding = database.insert(table_of(ExecutionRow))
        self._run = database.run
        self._connected = database.connected

    async def add(self, execution: ExecutionRecord) -> None:
        """Add an execution that has ended. Code that does not fit into the history is not kept."""
        with self._quota.writing(execution.owner, kept_code_bytes(execution)):
            await self._connected(lambda db: add_execution(db, self._adding, execution, self._quota))

    async def get(self, execution_id: str, owner: str) -> ExecutionRecord | None:
        """Return the owner's execution with this id, or None.

        If the execution has no row yet, for example after a crash, the row of its cell is used.
        """

        def look(session: Session) -> ExecutionRecord | None:
            row = session.get(ExecutionRow, execution_id)
            if row is not None:
                return as_record(ExecutionRecord, row) if row.owner == owner else None
            unfinished = select(CellRow).where(CellRow.cell_id == execution_id, CellRow.state != "done")
            cell = session.scalar(unfinished.options(defer(CellRow.result), defer(CellRow.code)))
            if cell is None:
                return None
            of_session = session.get(SessionRow, cell.session_id)
            if of_session is None or of_session.owner != owner:
                return None
            runs = cell.state == "running" and of_session.ended_at is None
            return _of_cell(cell, owner, "running" if runs else "lost")

        return await self._run(look)

    async def page(
        self, owner: str, limit: int, after: str | None = None
    ) -> tuple[list[ExecutionRecord], bool]:
        """Return executions of the owner, newest first, after a cursor, and whether more follow.

        There are at most ``limit``, and fewer if their code has more than 4 MiB together, but at least one.

        Raises:
            InvalidCursor: ``after`` is not a cursor.
        """
        row = ExecutionRow
        position = tuple_(row.created_at, row.execution_id)
        conditions: list[ColumnElement[bool]] = [row.owner == owner]
        if after is not None:
            created_at, identifier = read_cursor(after)
            conditions.append(position < (created_at, identifier.hex))
        newest_first = row.created_at.desc(), row.execution_id.desc()
        code_bytes = case((row.code.is_(None), 0), else_=func.coalesce(row.code_bytes, 0))
        sizes = select(code_bytes).where(*conditions).order_by(*newest_first).limit(limit + 1)
        rows = select(row).where(*conditions).order_by(*newest_first)

        def read(session: Session) -> tuple[list[ExecutionRecord], bool]:
            found = session.scalars(sizes).all()
            number = rows_in_page(found, limit)
            page = session.scalars(rows.limit(number)).all()
            return [as_record(ExecutionRecord, one) for one in page], len(found) > number

        return await self._run(read)


def add_execution(
    connection: Connection, adding: Insert, execution: ExecutionRecord, quota: HistoryQuota
) -> None:
    """Insert the row of an execution, and make room for its code if that is kept."""
    size = kept_code_bytes(execution)
    fits = not size or quota.make_room(connection, execution.owner, size)
    connection.execute(adding, vars(execution) if fits else vars(execution) | {"code": None})


def _of_cell(cell: CellRow, owner: str, outcome: Outcome) -> ExecutionRecord:
    """Return the record of an execution that has only the row of its cell."""
    return ExecutionRecord(
        execution_id=cell.cell_id,
        created_at=cell.started_at,
        finished_at=cell.finished_at or cell.started_at,
        outcome=outcome,
        exit_code=None,
        timed_out=False,
        duration_ms=0,
        stdout_bytes=0,
        stderr_bytes=0,
        files_in=0,
        files_out=0,
        owner=owner,
        kind="session",
        session_id=cell.session_id,
        code_bytes=cell.code_bytes,
    )
