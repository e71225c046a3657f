"""The executions in the registry: times, outcomes and resources."""

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from service.database.cursor import read_cursor
from service.database.database import Database, as_record
from service.database.tables import CellRow, ExecutionRow, SessionRow, table_of
from sessions.records import ExecutionRecord, Outcome


class ExecutionRegistry:
    """The executions in the registry. Each method is one transaction, with the errors of ``Database.run``."""

    def __init__(self, database: Database) -> None:
        self._adding = database.insert(table_of(ExecutionRow))
        self._run = database.run
        self._write = database.write

    async def add(self, execution: ExecutionRecord) -> None:
        """Add an execution that has ended."""
        await self._write((self._adding, vars(execution)))

    async def get(self, execution_id: str, owner: str) -> ExecutionRecord | None:
        """Return the owner's execution with this id, or None.

        If the execution has no row yet, for example after a crash, the row of its cell is used.
        """

        def look(session: Session) -> ExecutionRecord | None:
            row = session.get(ExecutionRow, execution_id)
            if row is not None:
                return as_record(ExecutionRecord, row) if row.owner == owner else None
            cell = session.get(CellRow, execution_id)
            if cell is None or cell.state == "done":
                return None
            of_session = session.get(SessionRow, cell.session_id)
            if of_session is None or of_session.owner != owner:
                return None
            runs = cell.state == "running" and of_session.ended_at is None
            return _of_cell(cell, owner, "running" if runs else "lost")

        return await self._run(look)

    async def page(self, owner: str, limit: int, after: str | None = None) -> list[ExecutionRecord]:
        """Return at most ``limit`` executions of the owner, newest first, from the cursor ``after`` on.

        Raises:
            InvalidCursor: ``after`` is not a cursor.
        """
        position = tuple_(ExecutionRow.created_at, ExecutionRow.execution_id)
        query = select(ExecutionRow).where(ExecutionRow.owner == owner).limit(limit)
        query = query.order_by(ExecutionRow.created_at.desc(), ExecutionRow.execution_id.desc())
        if after is not None:
            created_at, identifier = read_cursor(after)
            query = query.where(position < (created_at, identifier.hex))
        rows = await self._run(lambda session: session.scalars(query).all())
        return [as_record(ExecutionRecord, row) for row in rows]


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
        code_bytes=len(cell.code.encode()),
    )
