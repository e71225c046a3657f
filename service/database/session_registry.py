"""The registry's sessions and cells: what a restarted service needs to take them up again."""

from dataclasses import asdict

from sqlalchemy import ColumnElement, bindparam, func, select, update
from sqlalchemy.orm import Session

from service.database.database import Change, Database, as_record, count
from service.database.tables import CellRow, ExecutionRow, SessionRow, table_of
from sessions.models import JsonObject
from sessions.records import (
    CellRecord,
    CellState,
    ExecutionRecord,
    OpenSessionRecord,
    SessionEnd,
    SessionRecord,
)

_CELL_DONE = (
    update(table_of(CellRow))
    .where(CellRow.cell_id == bindparam("id"))
    .values(state="done", finished_at=bindparam("at"), result=bindparam("answer"))
)

_USED = (
    update(table_of(SessionRow))
    .where(SessionRow.session_id == bindparam("id"), SessionRow.ended_at.is_(None))
    .values(last_used_at=bindparam("at"))
)


class SessionRegistry:
    """Sessions and cells in the registry. Each method is one transaction; errors as ``Database.run``."""

    def __init__(self, database: Database) -> None:
        self._add_cell = database.insert(table_of(CellRow))
        self._add_done = database.insert(table_of(CellRow), "state", "finished_at", "result")
        self._add_execution = database.insert(table_of(ExecutionRow))
        self._run = database.run
        self._write = database.write

    # Sessions

    async def add_session(self, session: SessionRecord) -> None:
        """Remember a session."""
        await self._run(lambda db: db.add(SessionRow(**asdict(session))))

    async def get_session(self, session_id: str, owner: str) -> SessionRecord | None:
        """The owner's session of this id, also after it has ended; None if there never was one."""
        query = select(SessionRow).where(SessionRow.session_id == session_id, SessionRow.owner == owner)
        row = await self._run(lambda db: db.scalar(query))
        return None if row is None else as_record(SessionRecord, row)

    async def live_sessions(self, instance_id: str) -> list[SessionRecord]:
        """The sessions of an installation that have not ended, oldest first."""
        query = (
            select(SessionRow)
            .where(SessionRow.instance_id == instance_id, SessionRow.ended_at.is_(None))
            .order_by(SessionRow.created_at, SessionRow.session_id)
        )
        rows = await self._run(lambda db: db.scalars(query).all())
        return [as_record(SessionRecord, row) for row in rows]

    async def open_sessions(self, owner: str) -> list[OpenSessionRecord]:
        """The owner's sessions that have not ended, oldest first, with what runs in them."""
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
        """Change what is not None; False if there is no such session or it has ended."""
        values = {"expires_at": expires_at, "last_used_at": last_used_at}
        changes = {name: value for name, value in values.items() if value is not None}
        live = SessionRow.session_id == session_id, SessionRow.ended_at.is_(None)

        def change(db: Session) -> bool:
            if not changes:
                return db.scalar(select(SessionRow.session_id).where(*live)) is not None
            return count(db.execute(update(SessionRow).where(*live).values(changes))) > 0

        return await self._run(change)

    async def end_session(self, session_id: str, reason: SessionEnd, at: float) -> bool:
        """End a session, and with it the cells that still run: they are lost.

        The first end counts: False, and nothing changes, if it has ended or there is no such session.
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
        """Remember a cell of a session that is known."""
        await self._write((self._add_cell, asdict(cell)))

    async def finish_cell(
        self, cell_id: str, state: CellState, finished_at: float, result: JsonObject | None
    ) -> bool:
        """Note how a cell ended; False if it is done already or not known.

        A lost cell may still turn out to be done: its result came late.
        """
        change = (
            update(CellRow)
            .where(CellRow.cell_id == cell_id, CellRow.state != "done")
            .values(state=state, finished_at=finished_at, result=result)
        )
        return await self._run(lambda db: count(db.execute(change)) > 0)

    async def keep_result(self, cell: CellRecord, execution: ExecutionRecord, *, is_new: bool) -> None:
        """Note that a cell is done, and the execution it was. `is_new`: it has no row yet."""
        end = {"id": cell.cell_id, "at": cell.finished_at, "answer": cell.result}
        change: Change = (self._add_done, asdict(cell)) if is_new else (_CELL_DONE, end)
        await self._write(change, (self._add_execution, vars(execution)))

    async def add_command(self, session_id: str, execution: ExecutionRecord) -> None:
        """Remember a shell command that ran in a session, which was used by that."""
        used = {"id": session_id, "at": execution.finished_at}
        await self._write((_USED, used), (self._add_execution, vars(execution)))

    async def get_cell(self, session_id: str, cell_id: str) -> CellRecord | None:
        """The cell of this id if it is one of this session's."""
        row = await self._run(lambda db: db.get(CellRow, cell_id))
        return None if row is None or row.session_id != session_id else as_record(CellRecord, row)

    async def cells(self, session_id: str) -> list[CellRecord]:
        """A session's cells by their numbers. Their results may be large."""
        return await self._cells(CellRow.session_id == session_id)

    async def running_cells(self, session_id: str) -> list[CellRecord]:
        """Those of a session's cells that have not ended, by their numbers."""
        return await self._cells(CellRow.session_id == session_id, CellRow.state == "running")

    async def _cells(self, *conditions: ColumnElement[bool]) -> list[CellRecord]:
        query = select(CellRow).where(*conditions).order_by(CellRow.number, CellRow.started_at)
        rows = await self._run(lambda db: db.scalars(query).all())
        return [as_record(CellRecord, row) for row in rows]
