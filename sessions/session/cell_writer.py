"""Writes the row of a cell: soon after the cell begins, and when it has a result."""

import asyncio
from dataclasses import replace
from typing import Final

from sessions import clock
from sessions.models import JsonObject
from sessions.ports import SessionRows
from sessions.records import CellRecord, ExecutionRecord
from sessions.tasks import finish

_SHORT_SEC: Final = 0.05
"""Seconds after which a cell that still runs gets its row. Most cells end sooner, and are written once."""


class CellWriter:
    """Writes the row of one cell.

    Until the row is written, the container holds everything that a restarted service needs to write it
    (`sessions.session.resumption`).
    """

    def __init__(self, rows: SessionRows, cell: CellRecord, *, is_written: bool = False) -> None:
        """Write `cell` soon. `is_written`: the row exists already."""
        self.cell = cell
        self._rows = rows
        self._is_written = is_written
        self._writing = asyncio.Lock()
        self._soon = asyncio.create_task(self._write_soon())

    async def _write_soon(self) -> None:
        await asyncio.sleep(_SHORT_SEC)
        await self.write()

    async def write(self) -> None:
        """Write the row, unless it is written."""
        await finish(self._write())

    async def _write(self) -> None:
        async with self._writing:
            if not self._is_written:
                await self._rows.add_cell(self.cell)
                self._is_written = True

    async def done(self, result: JsonObject, execution: ExecutionRecord) -> None:
        """Write the result of the cell, and the row of its execution."""
        done = replace(self.cell, state="done", finished_at=clock.now(), result=result)
        async with self._writing:
            await self._rows.keep_result(done, execution, is_new=not self._is_written)
            self._is_written = True
        self._soon.cancel()

    async def lost(self) -> None:
        """Write that the end of the cell is not known."""
        await self.write()
        await self._rows.finish_cell(self.cell.cell_id, "lost", clock.now(), None)
