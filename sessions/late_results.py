"""Results of a session's cells that the registry has not taken: kept as soon as it does."""

import asyncio
import contextlib
import logging
from typing import Final

from sessions.cell_writer import CellWriter
from sessions.errors import RegistryUnavailable
from sessions.executions.execution import Execution
from sessions.models import JsonObject
from sessions.tasks import BackgroundTasks

log = logging.getLogger(__name__)

_AGAIN_SEC: Final = 1.0
_MOST: Final = 8
"""That wait at once."""


class LateResults:
    """Those of one session; what still waits at `close` is for a new life of the service to fetch."""

    def __init__(self) -> None:
        self._tasks = BackgroundTasks()

    @property
    def are_many(self) -> bool:
        """Whether no more may wait."""
        return len(self._tasks) >= _MOST

    def keep(self, result: JsonObject, run: Execution, note: CellWriter) -> None:
        """Try again in the background until the registry takes it."""
        log.warning("the result of cell %s is kept when the registry is back", run.execution_id)
        self._tasks.start(self._keep(result, run, note))

    async def _keep(self, result: JsonObject, run: Execution, note: CellWriter) -> None:
        try:
            while True:
                await asyncio.sleep(_AGAIN_SEC)
                with contextlib.suppress(RegistryUnavailable):
                    await note.done(result, run.record)
                    run.entry.kept()
                    return
        except asyncio.CancelledError:
            run.entry.not_kept()
            raise

    async def close(self) -> None:
        """Stop trying."""
        await self._tasks.close()
