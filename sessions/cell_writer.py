"""What the registry knows of a running cell: enough to find it again after a crash, and then its result."""

import asyncio
from dataclasses import replace

from service.database.session_registry import SessionRegistry
from sessions import clock
from sessions.models import JsonObject
from sessions.records import CellRecord, ExecutionRecord
from sessions.tasks import finish

_SHORT_SEC = 0.05


class CellWriter:
    """The row of one cell that runs.

    It is written once the cell has run for a moment. Most are over by then, and the row is written
    with its result. Until it is, the container has what it takes to write it: see `Session.resume`.
    """

    def __init__(self, registry: SessionRegistry, cell: CellRecord, *, is_written: bool = False) -> None:
        self.cell = cell
        self._registry = registry
        self._is_written = is_written
        self._writing = asyncio.Lock()
        self._soon = asyncio.create_task(self._write_soon())

    async def _write_soon(self) -> None:
        await asyncio.sleep(_SHORT_SEC)
        await self.write()

    async def write(self) -> None:
        """Return when a crash could not make the cell be forgotten."""
        await finish(self._write())

    async def _write(self) -> None:
        async with self._writing:
            if not self._is_written:
                await self._registry.add_cell(self.cell)
                self._is_written = True

    async def done(self, result: JsonObject, execution: ExecutionRecord) -> None:
        """Note how it ended."""
        done = replace(self.cell, state="done", finished_at=clock.now(), result=result)
        async with self._writing:
            await self._registry.keep_result(done, execution, is_new=not self._is_written)
            self._is_written = True
        self._soon.cancel()

    async def lost(self) -> None:
        """Note that nobody knows how it ended."""
        await self.write()
        await self._registry.finish_cell(self.cell.cell_id, "lost", clock.now(), None)
