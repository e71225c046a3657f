"""The cells of a session as they are read for callers: by page, and their texts in pieces."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Text,
    case,
    cast,
    func,
    literal_column,
    select,
    tuple_,
)

from service.database.database import Database
from service.database.registries.cursor import make_cursor, read_cursor, rows_in_page
from service.database.tables import CellRow, table_of
from sessions.errors import RegistryUnavailable
from sessions.records import TEXT_BYTES, CellPage, CellRecord, CellSize, StoredCell, StoredText

_CELLS: Final = table_of(CellRow)
_TEXTS: Final = ("code", "result")
_FACTS: Final = [column for column in _CELLS.columns if column.name not in _TEXTS]


class StoredCells:
    """Reads the cells of sessions. A method is one transaction, with errors of ``Database.run``."""

    def __init__(self, database: Database) -> None:
        self._connected = database.connected
        self._read_piece = _read_piece_of_postgresql if database.is_postgresql else _read_piece_of_sqlite

    async def page(self, session_id: str, limit: int, after: str | None = None) -> CellPage:
        """Return a page of the cells of a session in the order of their numbers.

        Args:
            limit: most cells of the page; fewer if they have more than 4 MiB together, but at least one.
            after: ``next`` of the page before.

        Raises:
            InvalidCursor: no page has the ``next`` that ``after`` names.
        """
        position = tuple_(_CELLS.c.number, _CELLS.c.cell_id)
        conditions: list[ColumnElement[bool]] = [_CELLS.c.session_id == session_id]
        if after is not None:
            number, identifier = read_cursor(after)
            conditions.append(position > (number, identifier.hex))
        size = _CELLS.c.code_bytes + _CELLS.c.result_bytes
        sizes = select(_CELLS.c.number, _CELLS.c.cell_id, size).where(*conditions).limit(limit + 1)
        sizes = sizes.order_by(_CELLS.c.number, _CELLS.c.cell_id)
        found = await self._connected(lambda db: db.execute(sizes).all())
        number_of_cells = rows_in_page([int(row[2]) for row in found], limit)
        cells = tuple(CellSize(row[1], int(row[2])) for row in found[:number_of_cells])
        if len(found) == number_of_cells:
            return CellPage(cells, None)
        last = found[number_of_cells - 1]
        return CellPage(cells, make_cursor(last[0], last[1]))

    async def cells(self, cell_ids: Sequence[str]) -> list[StoredCell]:
        """Return the cells that still exist, by number. Texts of up to `TEXT_BYTES` are in memory."""
        short = [
            case((_CELLS.c[f"{name}_bytes"] <= TEXT_BYTES, cast(_CELLS.c[name], Text))).label(name)
            for name in _TEXTS
        ]
        query = select(*_FACTS, *short).where(_CELLS.c.cell_id.in_(cell_ids))
        query = query.order_by(_CELLS.c.number, _CELLS.c.cell_id)
        rows = await self._connected(lambda db: db.execute(query).mappings().all())
        return [self._cell(row) for row in rows]

    def _cell(self, row: RowMapping) -> StoredCell:
        facts: dict[str, Any] = {column.name: row[column.name] for column in _FACTS}
        sizes = {name: int(facts.pop(f"{name}_bytes")) for name in _TEXTS}
        record = CellRecord(code="", **facts)
        code = self._text(record.cell_id, "code", sizes["code"], row["code"])
        if row["result"] is None and not sizes["result"]:
            return StoredCell(record, code, None)
        return StoredCell(record, code, self._text(record.cell_id, "result", sizes["result"], row["result"]))

    def _text(self, cell_id: str, column: str, size: int, short: str | None) -> StoredText:
        if short is not None:
            text = short.encode()

            async def slice_of_text(start: int, count: int) -> bytes:
                return text[start : start + count]

            return StoredText(len(text), slice_of_text)

        async def read(start: int, count: int) -> bytes:
            piece = await self._connected(lambda db: self._read_piece(db, cell_id, column, start, count))
            if piece is None or (not piece and start < size):
                raise RegistryUnavailable(f"the {column} of cell {cell_id} was removed while it was read")
            return piece

        return StoredText(size, read)


def _read_piece_of_postgresql(
    connection: Connection, cell_id: str, column: str, start: int, count: int
) -> bytes | None:
    text = func.convert_to(cast(_CELLS.c[column], Text), "UTF8")
    query = select(func.substring(text, start + 1, count)).where(_CELLS.c.cell_id == cell_id)
    piece = connection.scalar(query)
    return None if piece is None else bytes(piece)


def _read_piece_of_sqlite(
    connection: Connection, cell_id: str, column: str, start: int, count: int
) -> bytes | None:
    """Read a piece in place: a query would copy the whole text first."""
    rowid: ColumnElement[int] = literal_column("rowid")
    kept = _CELLS.c.cell_id == cell_id, _CELLS.c[column].is_not(None)
    row = connection.scalar(select(rowid).select_from(_CELLS).where(*kept))
    if row is None:
        return None
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    try:
        with driver.blobopen(_CELLS.name, column, row, readonly=True) as text:
            text.seek(min(start, len(text)))
            return bytes(text.read(count))
    except sqlite3.Error as error:
        raise RegistryUnavailable(str(error)) from error
