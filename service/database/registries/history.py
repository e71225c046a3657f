"""The limit on an owner's history: the code and the results of the cells, and the kept code of executions.

A result that has no room makes room. First the oldest code that `KEEP_CODE` keeps is removed, then the oldest
results of cells, then their oldest code, and at last their oldest rows. The row of a cell says what was
removed from it.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Select,
    Update,
    and_,
    delete,
    exists,
    func,
    literal,
    select,
    update,
)

from service.database.connection import POSTGRESQL
from service.database.tables import CellRow, ExecutionRow, SessionRow, table_of
from sessions.records import ExecutionRecord

ROW_BYTES: Final = 512
"""Bytes that a cell counts in addition to its code and result."""
_LOCKS: Final = 0x11570
"""First key of the advisory locks of PostgreSQL, one for each owner."""
_ROWS_AT_ONCE: Final = 200
_CELLS: Final = table_of(CellRow)
_EXECUTIONS: Final = table_of(ExecutionRow)
_SESSIONS: Final = table_of(SessionRow)
_CODE_BYTES: Final = func.coalesce(_EXECUTIONS.c.code_bytes, 0)


class HistoryQuota:
    """Decides when the cells of an owner have to be counted, and makes room.

    Counting takes a query, which most writes do without: each count allows an owner to add some bytes before
    the next one. Alone, a service allows what is left. Replicas do not see each other's allowances. So each
    allows a 32nd of the limit, and a quarter of the limit is kept free for up to eight of them.
    """

    def __init__(self, limit_bytes: int = 0, *, is_shared: bool = False) -> None:
        """Limit the history of each owner; 0 means no limit. `is_shared`: replicas use the same registry."""
        self._limit_bytes = limit_bytes
        self._target_bytes = limit_bytes * 3 // 4 if is_shared else limit_bytes
        self._most_allowed = limit_bytes // 32 if is_shared else limit_bytes
        self._allowed: Counter[str] = Counter()
        """Bytes that each owner may add before the next count."""
        self._being_written: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def writing(self, owner: str, size: int) -> Iterator[None]:
        """Count a cell or an execution of `size` bytes while the block writes it."""
        with self._lock:
            self._being_written[owner] += size
        try:
            yield
        finally:
            with self._lock:
                self._being_written[owner] -= size

    def make_room(self, connection: Connection, owner: str, size: int) -> bool:
        """Make room for `size` bytes in the transaction that writes them. Return whether they fit."""
        with self._lock:
            if not self._limit_bytes or size <= self._allowed[owner]:
                self._allowed[owner] -= size
                return True
        if connection.dialect.name == POSTGRESQL:
            # Another replica, or another thread, may be about to count the same cells.
            connection.execute(select(func.pg_advisory_xact_lock(_LOCKS, func.hashtext(owner))))
        fits = size <= self._limit_bytes
        with self._lock:
            new = self._being_written[owner] - (0 if fits else size)
        stored = _size_of(connection, owner)
        if stored + new > self._target_bytes:
            # A little more than needed, so that the next results find room without another count.
            stored = _shrink(connection, owner, stored, max(0, self._target_bytes * 7 // 8 - new))
        with self._lock:
            self._allowed[owner] = max(0, min(self._most_allowed, self._target_bytes - stored - new))
        return fits


def kept_code_bytes(execution: ExecutionRecord) -> int:
    """Return the bytes of an execution that count: those of its code, if it is kept."""
    return 0 if execution.code is None else execution.code_bytes or 0


def _size_of(connection: Connection, owner: str) -> int:
    cell = _CELLS.c.code_bytes + _CELLS.c.result_bytes + literal(ROW_BYTES)
    cells = select(func.coalesce(func.sum(cell), 0)).where(_is_of(owner))
    codes = select(func.coalesce(func.sum(_CODE_BYTES), 0)).where(_keeps_code(owner))
    return sum(int(connection.scalar(size) or 0) for size in (cells, codes))


def _is_of(owner: str) -> ColumnElement[bool]:
    return _CELLS.c.session_id.in_(select(_SESSIONS.c.session_id).where(_SESSIONS.c.owner == owner))


def _keeps_code(owner: str) -> ColumnElement[bool]:
    return and_(_EXECUTIONS.c.owner == owner, _EXECUTIONS.c.code.is_not(None))


def _shrink(connection: Connection, owner: str, stored: int, target: int) -> int:
    """Remove the oldest data, in the order of the module's docstring, until `target` bytes are left.

    Return what is left. The last row of each session stays: the number of the next cell depends on it.
    """
    oldest_codes = (
        select(_EXECUTIONS.c.execution_id, _CODE_BYTES)
        .where(_keeps_code(owner))
        .order_by(_EXECUTIONS.c.created_at, _EXECUTIONS.c.execution_id)
    )
    later = _CELLS.alias()
    has_later = exists().where(later.c.session_id == _CELLS.c.session_id, later.c.number > _CELLS.c.number)
    steps: tuple[tuple[Select[Any], ColumnElement[str], Update | Delete], ...] = (
        (oldest_codes, _EXECUTIONS.c.execution_id, update(_EXECUTIONS).values(code=None)),
        (
            _oldest_cells(owner, _CELLS.c.result_bytes, _CELLS.c.result_bytes > 0),
            _CELLS.c.cell_id,
            update(_CELLS).values(result=None, result_bytes=0, removed="result"),
        ),
        (
            _oldest_cells(owner, _CELLS.c.code_bytes, _CELLS.c.code_bytes > 0),
            _CELLS.c.cell_id,
            update(_CELLS).values(code="", code_bytes=0, removed="code"),
        ),
        (_oldest_cells(owner, literal(ROW_BYTES), has_later), _CELLS.c.cell_id, delete(_CELLS)),
    )
    for oldest, key, change in steps:
        while stored > target and (rows := connection.execute(oldest.limit(_ROWS_AT_ONCE)).all()):
            chosen = list(_until(stored - target, [(str(row), int(freed)) for row, freed in rows]))
            connection.execute(change.where(key.in_([row for row, _ in chosen])))
            stored -= sum(freed for _, freed in chosen)
    return stored


def _oldest_cells(owner: str, size: ColumnElement[int], condition: ColumnElement[bool]) -> Select[Any]:
    """Return a query of the ended cells that meet a condition, oldest first: their ids and a size."""
    ended = _CELLS.c.state != "running"
    cells = select(_CELLS.c.cell_id, size).where(_is_of(owner), ended, condition)
    return cells.order_by(_CELLS.c.started_at, _CELLS.c.cell_id)


def _until(needed: int, rows: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Yield the first rows that have `needed` bytes together, or all of them."""
    for row in rows:
        if needed <= 0:
            return
        needed -= row[1]
        yield row
