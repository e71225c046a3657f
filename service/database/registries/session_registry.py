"""The sessions and cells in the registry. A restarted service resumes them from these rows."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy.orm import Session

from service.database.connection import to_json
from service.database.database import Database, as_record, count
from service.database.registries.execution_registry import add_execution
from service.database.registries.history import ROW_BYTES, HistoryQuota, kept_code_bytes
from service.database.registries.stored_cells import StoredCells
from service.database.tables import CellRow, ExecutionRow, SessionRow, table_of
from sessions.models import JsonObject
from sessions.records import (
    CellPage,
    CellRecord,
    CellState,
    CellSummary,
    ExecutionRecord,
    OpenSessionRecord,
    SessionEnd,
    SessionRecord,
    StoredCell,
)

_COUNTS: Final = 10
"""Results that are searched for an execution count, from the last one."""

_END: Final = ("state", "finished_at", "result", "result_bytes", "removed")
"""Columns of a cell that are written when it has ended."""
_CELL_DONE = (
    update(table_of(CellRow))
    .where(CellRow.cell_id == bindparam("id"))
    .values({name: bindparam(f"new_{name}") for name in _END})
)

_USED = (
    update(table_of(SessionRow))
    .where(SessionRow.session_id == bindparam("id"), SessionRow.ended_at.is_(None))
    .values(last_used_at=bindparam("at"))
)


class SessionRegistry:
    """Sessions and cells in the registry. A method is one transaction, with errors of ``Database.run``."""

    def __init__(self, database: Database, quota: HistoryQuota | None = None) -> None:
        """Limit the history of each owner by ``quota``; without one there is no limit."""
        self._quota = quota or HistoryQuota()
        self._add_cell = database.insert(table_of(CellRow))
        self._add_done = database.insert(table_of(CellRow), *_END)
        self._add_execution = database.insert(table_of(ExecutionRow))
        self._stored = StoredCells(database)
        self._connected = database.connected
        self._run = database.run
        self._write = database.write

    # Sessions

    async def add_session(self, session: SessionRecord) -> None:
        """Add a session."""
        await self._run(lambda db: db.add(SessionRow(**asdict(session))))

    async def get_session(self, session_id: str, owner: str) -> SessionRecord | None:
        """Return the owner's session with this id, also after its end; None if there never was one."""
        query = select(SessionRow).where(SessionRow.session_id == session_id, SessionRow.owner == owner)
        row = await self._run(lambda db: db.scalar(query))
        return None if row is None else as_record(SessionRecord, row)

    async def live_sessions(self, instance_id: str) -> list[SessionRecord]:
        """Return the sessions of an installation that have not ended, oldest first."""
        query = (
            select(SessionRow)
            .where(SessionRow.instance_id == instance_id, SessionRow.ended_at.is_(None))
            .order_by(SessionRow.created_at, SessionRow.session_id)
        )
        rows = await self._run(lambda db: db.scalars(query).all())
        return [as_record(SessionRecord, row) for row in rows]

    async def open_sessions(self, owner: str) -> list[OpenSessionRecord]:
        """Return the owner's sessions that have not ended, oldest first.

        Each has the number of its last cell, and whether a cell is running.
        """
        of_session = CellRow.session_id == SessionRow.session_id
        runs = select(CellRow.cell_id).where(of_session, CellRow.state == "running").exists()
        cells = select(func.coalesce(func.max(CellRow.number), 0)).where(of_session).scalar_subquery()
        query = (
            select(SessionRow, runs, cells)
            .where(SessionRow.owner == owner, SessionRow.ended_at.is_(None))
            .order_by(SessionRow.created_at, SessionRow.session_id)
        )
        rows = await self._run(lambda db: db.execute(query).all())
        return [
            OpenSessionRecord(as_record(SessionRecord, row[0]), bool(row[1]), int(row[2])) for row in rows
        ]

    async def update_session(
        self, session_id: str, *, expires_at: float | None = None, last_used_at: float | None = None
    ) -> bool:
        """Change the given times of a session. Return False if there is no such session or it has ended."""
        values = {"expires_at": expires_at, "last_used_at": last_used_at}
        changes = {name: value for name, value in values.items() if value is not None}
        live = SessionRow.session_id == session_id, SessionRow.ended_at.is_(None)

        def change(db: Session) -> bool:
            if not changes:
                return db.scalar(select(SessionRow.session_id).where(*live)) is not None
            return count(db.execute(update(SessionRow).where(*live).values(changes))) > 0

        return await self._run(change)

    async def end_session(self, session_id: str, reason: SessionEnd, at: float) -> bool:
        """End a session, and mark its running cells as lost.

        Return False, and change nothing, if there is no such session or it has ended already.
        """
        end = (
            update(SessionRow)
            .where(SessionRow.session_id == session_id, SessionRow.ended_at.is_(None))
            .values(ended_at=at, end_reason=reason)
        )
        lose_cells = (
            update(CellRow)
            .where(CellRow.session_id == session_id, CellRow.state == "running")
            .values(state="lost", finished_at=at)
        )

        def change(db: Session) -> bool:
            if not count(db.execute(end)):
                return False
            db.execute(lose_cells)
            return True

        return await self._run(change)

    # Cells

    async def add_cell(self, cell: CellRecord) -> None:
        """Add a cell of an existing session."""
        await self._write((self._add_cell, _columns(cell)))

    async def finish_cell(
        self, cell_id: str, state: CellState, finished_at: float, result: JsonObject | None
    ) -> bool:
        """Store how a cell ended. Return False if it is done already or does not exist.

        A lost cell becomes done if its result arrives late.
        """
        change = (
            update(CellRow)
            .where(CellRow.cell_id == cell_id, CellRow.state != "done")
            .values(state=state, finished_at=finished_at, result=result)
        )
        return await self._run(lambda db: count(db.execute(change)) > 0)

    async def keep_result(self, cell: CellRecord, execution: ExecutionRecord, *, is_new: bool) -> None:
        """Store the result of a cell and its execution. ``is_new``: the cell has no row yet.

        The quota removes older results, or this one if it is larger than the limit.
        """

        columns = _columns(cell)
        size = ROW_BYTES + columns["code_bytes"] + columns["result_bytes"] + kept_code_bytes(execution)

        def change(db: Connection) -> None:
            row = vars(execution)
            if not self._quota.make_room(db, execution.owner, size):
                columns.update(result=None, result_bytes=0, removed="result")
                row = row | {"code": None}
            if is_new:
                db.execute(self._add_done, columns)
            else:
                end = {f"new_{name}": columns[name] for name in _END}
                db.execute(_CELL_DONE, {"id": cell.cell_id, **end})
            db.execute(self._add_execution, row)

        with self._quota.writing(execution.owner, size):
            await self._connected(change)

    async def add_command(self, session_id: str, execution: ExecutionRecord) -> None:
        """Add the execution of a shell command, and set the time at which its session was last used."""
        used = {"id": session_id, "at": execution.finished_at}

        def change(db: Connection) -> None:
            db.execute(_USED, used)
            add_execution(db, self._add_execution, execution, self._quota)

        with self._quota.writing(execution.owner, kept_code_bytes(execution)):
            await self._connected(change)

    async def get_cell(self, session_id: str, cell_id: str) -> CellRecord | None:
        """Return the cell with this id if it belongs to the session, or None."""
        row = await self._run(lambda db: db.get(CellRow, cell_id))
        return None if row is None or row.session_id != session_id else as_record(CellRecord, row)

    async def stored_cells(self, cell_ids: Sequence[str]) -> list[StoredCell]:
        """Return the cells that still exist, by number. Texts of up to `TEXT_BYTES` are in memory."""
        return await self._stored.cells(cell_ids)

    async def cells(self, session_id: str, limit: int, after: str | None = None) -> CellPage:
        """Return a page of the cells of a session, as `StoredCells.page` does."""
        return await self._stored.page(session_id, limit, after)

    async def running_cells(self, session_id: str) -> list[CellRecord]:
        """Return the running cells of a session in the order of their numbers."""
        running = CellRow.session_id == session_id, CellRow.state == "running"
        query = select(CellRow).where(*running).order_by(CellRow.number, CellRow.started_at)
        rows = await self._run(lambda db: db.scalars(query).all())
        return [as_record(CellRecord, row) for row in rows]

    async def summary(self, session_id: str) -> CellSummary:
        """Return the cells of a session in short. One result at a time is in memory."""
        of_session = CellRow.session_id == session_id
        last = select(func.coalesce(func.max(CellRow.number), 0), func.max(CellRow.finished_at))
        results = select(CellRow.result).where(of_session, CellRow.result_bytes > 0)
        results = results.order_by(CellRow.number.desc()).limit(_COUNTS)

        def read(db: Session) -> CellSummary:
            number, finished_at = db.execute(last.where(of_session)).one()
            with closing(db.scalars(results, execution_options={"yield_per": 1})) as found:
                counts = (result.get("execution_count") for result in found)
                execution_count = next((count for count in counts if isinstance(count, int)), 0)
            return CellSummary(number, execution_count, finished_at)

        return await self._run(read)


def _columns(cell: CellRecord) -> dict[str, Any]:
    """Return the values of a cell's columns, with the sizes that count for the quota."""
    result = None if cell.result is None else to_json(cell.result)
    sizes = {"code_bytes": len(cell.code.encode()), "result_bytes": len((result or "").encode())}
    return asdict(cell) | sizes | {"result": result}
