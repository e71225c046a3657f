"""Results of a session's cells that wait for a registry that is not available."""

import asyncio
import contextlib
import logging
from typing import Final

from sessions.errors import RegistryUnavailable
from sessions.executions.execution import Execution
from sessions.models import JsonObject
from sessions.session.cell_writer import CellWriter
from sessions.tasks import BackgroundTasks

log = logging.getLogger(__name__)

_AGAIN_SEC: Final = 1.0
_MOST: Final = 8
"""Results of one session that may wait at once."""


class LateResults:
    """The waiting results of one session. After `close`, the next start reads them from the container."""

    def __init__(self) -> None:
        self._tasks = BackgroundTasks()

    @property
    def is_full(self) -> bool:
        """Whether no further result may wait."""
        return len(self._tasks) >= _MOST

    def add(self, result: JsonObject, execution: Execution, writer: CellWriter) -> None:
        """Write a result in the background, as soon as the registry is available."""
        log.warning(
            "the result of cell %s waits until the registry is available again", execution.execution_id
        )
        self._tasks.start(self._write(result, execution, writer))

    async def _write(self, result: JsonObject, execution: Execution, writer: CellWriter) -> None:
        try:
            while True:
                await asyncio.sleep(_AGAIN_SEC)
                with contextlib.suppress(RegistryUnavailable):
                    await writer.done(result, execution.record)
                    execution.recorder.is_written()
                    return
        except asyncio.CancelledError:
            execution.recorder.write_soon()
            raise

    async def close(self) -> None:
        """Stop trying."""
        await self._tasks.close()
