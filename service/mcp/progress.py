"""Progress notifications: a waiting client gets the output of long work, or a sign that it still runs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

Report = Callable[[float, float, str], Awaitable[None]]
"""Sends a notification: seconds that have passed, seconds that the work may take, and a message."""

_INTERVAL_SEC: Final = 0.5
_MAX_SILENCE_SEC: Final = 5.0
"""A notification is sent at least this often, because it resets the timeout of many clients."""
_MAX_CHARACTERS: Final = 2000


class Progress:
    """The output since the last notification; only its end is kept."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, text: str) -> None:
        """Add output."""
        self._text = (self._text + text)[-_MAX_CHARACTERS:]

    def take(self) -> str:
        """Return the output and forget it."""
        text, self._text = self._text, ""
        return text


@asynccontextmanager
async def reporting(report: Report | None, total_sec: float) -> AsyncIterator[Progress]:
    """Send notifications during the block.

    Args:
        report: sends a notification; None if the client wants none.
        total_sec: the time that the work may take.
    """
    progress = Progress()
    task = None if report is None else asyncio.create_task(_report(report, progress, total_sec))
    try:
        yield progress
    finally:
        if task is not None:
            task.cancel()
            await asyncio.wait({task})


async def _report(report: Report, progress: Progress, total_sec: float) -> None:
    started = reported_at = time.monotonic()
    while True:
        await asyncio.sleep(_INTERVAL_SEC)
        now = time.monotonic()
        text = progress.take()
        if text or now - reported_at >= _MAX_SILENCE_SEC:
            reported_at = now
            passed = round(now - started, 1)
            await report(passed, max(total_sec, passed), text or f"running for {passed:.0f} s")
