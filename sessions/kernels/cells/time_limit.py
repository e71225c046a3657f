"""The time limit of one cell."""

import asyncio
import time
from typing import Final

from sessions.kernels.cells.sources import Source
from sessions.kernels.supervisor_client import SupervisorClient

_INTERRUPT_GRACE_SEC: Final = 1.0
"""Time between the interrupt and the kill."""


class TimeLimit:
    """Waits for the end of code. Interrupts the code at its timeout, and kills it after a grace period."""

    def __init__(self, supervisor: SupervisorClient, timeout_sec: float) -> None:
        self.timeout_sec = timeout_sec
        self.timed_out = False
        self.killed = False
        """Whether the code was killed. Also True if the process had already ended and could not report it."""
        self.started = time.monotonic()
        self.duration_sec = 0.0
        self._supervisor = supervisor

    async def run(self, source: Source, ended: asyncio.Event) -> None:
        """Wait for the code's end, or stop it at the timeout. Then make sure that its cell ends.

        Args:
            source: the code.
            ended: set when the supervisor has reported the cell's end.
        """
        self.started = started = time.monotonic()
        over = asyncio.ensure_future(source.wait_until_over())
        try:
            done, _ = await asyncio.wait({over}, timeout=self.timeout_sec)
            self.duration_sec = time.monotonic() - started
            if done:
                await over
            else:
                self.timed_out = True
                # A timer may fire a fraction of a millisecond early.
                self.duration_sec = max(self.duration_sec, self.timeout_sec)
                await self._stop(source, over)
            await source.end_cell(ended)
        finally:
            over.cancel()
            self.duration_sec = self.duration_sec or time.monotonic() - started

    async def _stop(self, source: Source, over: "asyncio.Future[None]") -> None:
        """Interrupt the code, and kill it if it goes on. The supervisor reports the death of the process."""
        await self._supervisor.interrupt()
        done, _ = await asyncio.wait({over}, timeout=_INTERRUPT_GRACE_SEC)
        if not done:
            self.killed = True
            await source.kill()
