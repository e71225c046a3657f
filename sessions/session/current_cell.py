"""The running cell of a session, with everything that belongs to it."""

import asyncio
import contextlib
from dataclasses import dataclass

from sessions.containers.code_runner import CodeRunner
from sessions.executions.running_cell import RunningCell
from sessions.ports import Recorder
from sessions.session.cell_writer import CellWriter
from sessions.session.shell_command import GRACE_SEC


@dataclass(frozen=True)
class CurrentCell:
    """A cell that runs, or whose result is being written."""

    cell: RunningCell
    writer: CellWriter
    recorder: Recorder
    task: asyncio.Task[None]
    """Follows the cell to its end, and writes the result."""

    async def written(self) -> None:
        """Wait until the result is in the registry, if the cell is over."""
        if self.cell.is_over:
            await asyncio.wait({self.task})

    async def stop(self, runner: CodeRunner) -> None:
        """Interrupt the cell, and kill the kernel if the code ignores that. Nothing happens after its end."""
        if self.cell.is_over:
            return
        await runner.interrupt()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SEC):
                await self.cell.wait()
        if not self.cell.is_over:
            await runner.kill_kernel()

    async def close(self) -> None:
        """Stop following the cell. It continues in its container."""
        if not self.task.done():
            self.task.cancel()
            await asyncio.wait({self.task})
