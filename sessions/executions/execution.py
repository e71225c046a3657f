"""One execution that has a kernel: its events on their way to the caller, its images and files stored."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack

from sessions.executions.artifacts import Artifacts
from sessions.executions.result import ExecutionEvent, ExecutionResult, State
from sessions.models import CellEvent, CellResult, Display, JsonObject
from sessions.ports import Recorder
from sessions.records import ExecutionRecord

Conclude = Callable[[CellResult], Awaitable[tuple[State, str]]]
"""Called when the code has ended and its files are stored. Returns the state of the variables, and why."""


class Execution:
    """An execution whose code has begun. Iterate `events`, or `close` it."""

    def __init__(
        self,
        events: AsyncGenerator[CellEvent],
        lease: AsyncExitStack,
        artifacts: Artifacts,
        recorder: Recorder,
        conclude: Conclude,
        cell_id: str | None = None,
    ) -> None:
        """Follow the code that produces `events`.

        Args:
            lease: closed when the execution is over; gives the sandbox and the caller's place back.
            cell_id: id of the cell in its session; None without a session.
        """
        self.recorder = recorder
        self.execution_id = recorder.execution_id
        self._events = events
        self._lease = lease
        self._artifacts = artifacts
        self._conclude = conclude
        self._cell_id = cell_id
        self.record: ExecutionRecord
        """The row of the execution, set once the code has ended. The caller writes it."""
        self.reply: JsonObject = {}
        """The kernel's reply, which user code may have forged; empty until the code has ended."""

    async def close(self) -> None:
        """Stop the code and give the sandbox back. Do nothing if the events have ended."""
        self.recorder.cancelled()
        await self._lease.aclose()

    async def events(self) -> AsyncGenerator[ExecutionEvent]:
        """Yield text and displays as they come, then the result."""
        async with self._lease:
            try:
                async for event in self._events:
                    if isinstance(event, Display):
                        await self._artifacts.store_images(event.output)
                        yield event
                    elif isinstance(event, CellResult):
                        yield await self._finish(event)
                    else:
                        yield event
            except BaseException as error:
                # When the service stops, the cell of a session continues, and the next start resumes it.
                if isinstance(error, Exception) or self._cell_id is None:
                    self.recorder.failed(error)
                raise

    async def _finish(self, result: CellResult) -> ExecutionResult:
        self.recorder.ran(result)
        self.reply = result.reply
        files, skipped = await self._artifacts.store_files(result.changed)
        self.record = self.recorder.ended(result, len(files), sum(file.size_bytes for file in files))
        state, state_reason = await self._conclude(result)
        return ExecutionResult(
            exit_code=result.exit_code,
            timed_out=result.timed_out,
            duration_ms=result.duration_ms,
            files=files,
            outputs=result.outputs,
            order=result.order,
            error=result.error,
            state=state,
            state_reason=state_reason,
            execution_count=result.execution_count,
            cell_id=self._cell_id,
            execution_id=self.execution_id,
            truncated=result.truncated,
            skipped_files=(*result.skipped, *skipped),
            usage=result.usage,
            notice=result.notice,
        )
