"""The limit on an owner's history: the code and the results of the cells in the registry.

A result that has no room makes room: the oldest results of the owner are removed, then the oldest code, and
at last the oldest rows. Each row says what was removed from it.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, exists, func, literal, select, update

from service.database.connection import POSTGRESQL
from service.database.tables import CellRow, SessionRow, table_of

ROW_BYTES: Final = 512
"""Bytes that a cell counts in addition to its code and result."""
_LOCKS: Final = 0x11570
"""First key of the advisory locks of PostgreSQL, one for each owner."""
_ROWS_AT_ONCE: Final = 200
_CELLS: Final = table_of(CellRow)
_SESSIONS: Final = table_of(SessionRow)


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
        """Count a cell of `size` bytes while the block writes it."""
        with self._lock:
            self._being_written[owner] += size
        try:
            yield
        finally:
            with self._lock:
                self._being_written[owner] -= size

    def make_room(self, connection: Connection, owner: str, size: int) -> bool:
        """Make room for a cell of `size` bytes in the transaction that writes it; return whether it fits."""
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


def _size_of(connection: Connection, owner: str) -> int:
    size = _CELLS.c.code_bytes + _CELLS.c.result_bytes + literal(ROW_BYTES)
    return int(connection.scalar(select(func.coalesce(func.sum(size), 0)).where(_is_of(owner))) or 0)


def _is_of(owner: str) -> ColumnElement[bool]:
    return _CELLS.c.session_id.in_(select(_SESSIONS.c.session_id).where(_SESSIONS.c.owner == owner))


def _shrink(connection: Connection, owner: str, stored: int, target: int) -> int:
    """Remove the oldest results, then code, then rows, until `target` bytes are left; return what is left.

    The last row of each session stays: the number of the next cell depends on it.
    """
    ended = _CELLS.c.state != "running"
    later = _CELLS.alias()
    has_later = exists().where(later.c.session_id == _CELLS.c.session_id, later.c.number > _CELLS.c.number)
    steps = (
        (
            _CELLS.c.result_bytes,
            _CELLS.c.result_bytes > 0,
            update(_CELLS).values(result=None, result_bytes=0, removed="result"),
        ),
        (
            _CELLS.c.code_bytes,
            _CELLS.c.code_bytes > 0,
            update(_CELLS).values(code="", code_bytes=0, removed="code"),
        ),
        (literal(ROW_BYTES), has_later, delete(_CELLS)),
    )
    for size, condition, change in steps:
        oldest = select(_CELLS.c.cell_id, size).where(_is_of(owner), ended, condition)
        oldest = oldest.order_by(_CELLS.c.started_at, _CELLS.c.cell_id).limit(_ROWS_AT_ONCE)
        while stored > target and (rows := connection.execute(oldest).all()):
            chosen = list(_until(stored - target, [(str(cell), int(freed)) for cell, freed in rows]))
            connection.execute(change.where(_CELLS.c.cell_id.in_([cell for cell, _ in chosen])))
            stored -= sum(freed for _, freed in chosen)
    return stored


def _until(needed: int, rows: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Yield the first rows that have `needed` bytes together, or all of them."""
    for row in rows:
        if needed <= 0:
            return
        needed -= row[1]
        yield row
