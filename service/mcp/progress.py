"""Tells a waiting client what long work does: what it prints, or that it still runs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

Report = Callable[[float, float, str], Awaitable[None]]
"""Takes seconds that have passed, seconds that there are, and a message."""

_EVERY_SEC: Final = 0.5
_SILENT_SEC: Final = 5.0
"""So often at least, so that a client's own timeout is put off."""
_MAX_CHARACTERS: Final = 2000


class Progress:
    """What was printed since the last report; only its end is kept."""

    def __init__(self) -> None:
        self._text = ""

    def printed(self, text: str) -> None:
        """Take note of output."""
        self._text = (self._text + text)[-_MAX_CHARACTERS:]

    def take(self) -> str:
        """The output that is to be reported now."""
        text, self._text = self._text, ""
        return text


@asynccontextmanager
async def reporting(report: Report | None, total_sec: float) -> AsyncIterator[Progress]:
    """Report while the block runs. With no ``report``, nobody wants to know."""
    progress = Progress()
    task = None if report is None else asyncio.create_task(_tell(report, progress, total_sec))
    try:
        yield progress
    finally:
        if task is not None:
            task.cancel()
            await asyncio.wait({task})


async def _tell(report: Report, progress: Progress, total_sec: float) -> None:
    started = told_at = time.monotonic()
    while True:
        await asyncio.sleep(_EVERY_SEC)
        now = time.monotonic()
        text = progress.take()
        if text or now - told_at >= _SILENT_SEC:
            told_at = now
            passed = round(now - started, 1)
            await report(passed, max(total_sec, passed), text or f"running for {passed:.0f} s")
