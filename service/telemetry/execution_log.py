"""Executions from their beginning: those that run are here, those that have ended in the registry.

Each has an entry, which gathers what is told of it afterwards: its row, its counts, its spans.
"""

import asyncio
import logging
import uuid
from types import TracebackType
from typing import Final, Literal, Self

from service.database.cursor import make_cursor, read_cursor
from service.database.execution_registry import ExecutionRegistry
from service.database.records import ExecutionPage
from service.telemetry.metrics import Metrics
from service.telemetry.request_context import current
from service.telemetry.traces import Traces
from sessions import clock
from sessions.errors import CallFailed, ExecutionNotFound, SessionEnded, SessionsError
from sessions.kernels.errors import SupervisorFailed
from sessions.models import CellResult
from sessions.records import (
    RUNNING,
    CellRecord,
    ExecutionKind,
    ExecutionRecord,
    FileOrigin,
    Outcome,
    SessionEnd,
)
from sessions.tasks import BackgroundTasks
from sessions.timeline import Timeline

log = logging.getLogger(__name__)

Refusal = Literal["refused", "cancelled"]

_OF_ERROR: Final[dict[str, Outcome]] = {
    "MemoryLimitExceeded": "memory",
    "CpuTimeLimitExceeded": "cpu",
    "KernelDied": "died",
}


class ExecutionRecorder:
    """One execution. As a context manager it is the time before the code runs: an error ends it."""

    def __init__(
        self,
        executions: "ExecutionLog",
        execution_id: str,
        kind: ExecutionKind,
        owner: str,
        code: str,
        session_id: str | None,
        created_at: float,
    ) -> None:
        self.execution_id = execution_id
        self.owner = owner
        self.created_at = created_at
        self.timeline = Timeline()
        self.trail = current()
        self.files_in = self.files_in_bytes = 0
        self.files_out = self.files_out_bytes = 0
        self.run_began: float | None = None
        """When the code was begun; None: it was not."""
        self.record: ExecutionRecord | None = None
        """How it ended; None: it has not."""
        self._is_followed = False
        """Whether the code is followed to its end in the background."""
        self._is_callers = False
        """Whether the row is the caller's to write."""
        self._is_left = False
        """Whether whoever asked for it has gone away, and it is being ended."""
        self._executions = executions
        self._kind: ExecutionKind = kind
        self._session_id = session_id
        self._code = code
        self._code_bytes = len(code.encode())
        if self.trail is not None:
            self.trail.execution_id = execution_id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None and not self._is_followed:
            self.failed(error)

    def has_inputs(self, files: int, size_bytes: int) -> None:
        """Note the number of inputs and their size together."""
        self.files_in, self.files_in_bytes = files, size_bytes

    def is_followed(self) -> None:
        """Note that the code is followed to its end in the background: an error in the block ends nothing."""
        self._is_followed = True

    def stored(self, origin: FileOrigin, size_bytes: int) -> None:
        """Count an image or a file of the execution that was stored."""
        self._executions.metrics.file_stored(origin, size_bytes)

    def did_not_begin(self) -> None:
        """Take back `began`: the container did not take the code."""
        self.run_began = None

    def began(self) -> None:
        """The code is in its kernel."""
        self.run_began = clock.now()

    def ran(self, result: CellResult) -> None:
        """The code has run, and all it made but its files is here."""
        now = clock.now()
        ended = now - result.gather_sec
        began = ended if self.run_began is None else self.run_began
        self.timeline.ran(began, ended, result.supervisor_sec, result.kernel_sec)
        self.timeline.add("gather", ended, now)

    def ended(self, result: CellResult, files: int, size_bytes: int) -> ExecutionRecord:
        """Note that all files are stored, and return the row.

        The caller writes the row and then calls `is_written`, or calls `write_soon`.
        """
        self.files_out, self.files_out_bytes = files, size_bytes
        self._is_callers = True
        return self._over(
            self._record(
                self._outcome(result),
                exit_code=result.exit_code,
                timed_out=result.timed_out,
                duration_ms=result.duration_ms,
                stdout_bytes=result.stdout_bytes,
                stderr_bytes=result.stderr_bytes,
                display_bytes=result.display_bytes,
                cpu_ms=round(1000 * result.cpu_sec, 3),
            )
        )

    def caller_left(self) -> None:
        """Whoever asked for it has gone away, so it is going to be ended."""
        self._is_left = True

    def is_written(self) -> None:
        """The caller has written the row."""
        self._is_callers = False
        self._executions.forget(self.execution_id)

    def write_soon(self) -> None:
        """The caller could not write the row, or has not come to it."""
        if self.record is not None and self._is_callers:
            self._is_callers = False
            self._executions.write_soon(self.record)

    def failed(self, error: BaseException) -> None:
        """An error ended it. What had begun has a row, which is written now; the rest was refused."""
        if self.record is not None:
            return
        if isinstance(error, SupervisorFailed):
            self._end_as("lost")
        elif isinstance(error, asyncio.CancelledError | GeneratorExit | SessionEnded):
            self.cancelled()
        elif self.run_began is None and isinstance(error, CallFailed | SessionsError):
            self._executions.refused(self, self._kind, "refused")
        else:
            self._end_as("failed")

    def cancelled(self) -> None:
        """Whoever asked for it went away, or its session was ended; nothing if it is over."""
        if self.record is None and self.run_began is None:
            self._executions.refused(self, self._kind, "cancelled")
        elif self.record is None:
            self._end_as("cancelled")

    def _outcome(self, result: CellResult) -> Outcome:
        outcome = _outcome(result, self._kind)
        return "cancelled" if self._is_left and outcome in ("error", "died") else outcome

    def _end_as(self, outcome: Outcome) -> None:
        if self.run_began is not None and not self.timeline.seconds("run"):
            self.timeline.ran(self.run_began, clock.now(), None, None)
        self._executions.write_soon(self._over(self._record(outcome)))

    def _over(self, record: ExecutionRecord) -> ExecutionRecord:
        self.record = record
        self._executions.over(self, record)
        return record

    def seen(self) -> ExecutionRecord:
        """What is known of it now."""
        return self.record or self._record(RUNNING)

    def _record(
        self,
        outcome: Outcome,
        *,
        exit_code: int | None = None,
        timed_out: bool = False,
        duration_ms: int | None = None,
        stdout_bytes: int = 0,
        stderr_bytes: int = 0,
        display_bytes: int | None = None,
        cpu_ms: float | None = None,
    ) -> ExecutionRecord:
        now, took = clock.now(), self.timeline.milliseconds
        if duration_ms is None:
            duration_ms = 0 if self.run_began is None else round(1000 * (now - self.run_began))
        return ExecutionRecord(
            execution_id=self.execution_id,
            created_at=self.created_at,
            finished_at=now,
            outcome=outcome,
            exit_code=exit_code,
            timed_out=timed_out,
            duration_ms=duration_ms,
            stdout_bytes=stdout_bytes,
            stderr_bytes=stderr_bytes,
            files_in=self.files_in,
            files_out=self.files_out,
            owner=self.owner,
            kind=self._kind,
            session_id=self._session_id,
            queue_ms=took("queue"),
            start_ms=took("start"),
            stage_ms=took("stage"),
            run_ms=took("run"),
            gather_ms=took("gather"),
            store_ms=took("store"),
            cpu_ms=cpu_ms,
            code_bytes=self._code_bytes,
            display_bytes=display_bytes,
            files_in_bytes=self.files_in_bytes,
            files_out_bytes=self.files_out_bytes,
            code=self._code if self._executions.keeps_code else None,
        )


class ExecutionLog:
    """All executions. Close it when nothing runs any more."""

    def __init__(
        self, registry: ExecutionRegistry, metrics: Metrics, traces: Traces, *, keeps_code: bool
    ) -> None:
        self.metrics = metrics
        self.traces = traces
        self.keeps_code = keeps_code
        self._registry = registry
        self._entries: dict[str, ExecutionRecorder] = {}
        """What runs, and what has ended and is not written yet."""
        self._writing = BackgroundTasks()

    def begin(
        self, kind: ExecutionKind, owner: str, code: str, session_id: str | None = None
    ) -> ExecutionRecorder:
        """Somebody wants code to run: for a `with` block in which it comes to its kernel."""
        return self._add(
            ExecutionRecorder(self, uuid.uuid4().hex, kind, owner, code, session_id, clock.now())
        )

    def resume(
        self, execution_id: str, owner: str, code: str, session_id: str, began: float
    ) -> ExecutionRecorder:
        """A session's cell still runs that an earlier life of the service has begun."""
        entry = ExecutionRecorder(self, execution_id, "session", owner, code, session_id, began)
        entry.run_began = began
        return self._add(entry)

    def lose(self, cell: CellRecord, owner: str) -> None:
        """What became of a session's cell, begun in an earlier life of the service, cannot be known."""
        entry = self.resume(cell.cell_id, owner, cell.code, cell.session_id, cell.started_at)
        entry.failed(SupervisorFailed("what became of it is not known"))

    def _add(self, entry: ExecutionRecorder) -> ExecutionRecorder:
        self._entries[entry.execution_id] = entry
        return entry

    def refused(self, entry: ExecutionRecorder, kind: ExecutionKind, outcome: Refusal) -> None:
        """It did not come to run, which nobody has to remember."""
        self.forget(entry.execution_id)
        if entry.trail is not None:
            entry.trail.execution_id = None
        self.metrics.refused(kind, outcome)

    def over(self, entry: ExecutionRecorder, record: ExecutionRecord) -> None:
        """It has ended, and is yet to be written."""
        self.metrics.executed(record, entry.timeline)
        self.traces.executed(entry.trail, record, entry.timeline)

    def forget(self, execution_id: str) -> None:
        """The registry knows it, or nobody does."""
        self._entries.pop(execution_id, None)

    def write_soon(self, record: ExecutionRecord) -> None:
        """Have the row written while the caller reads the answer."""
        self._writing.start(self._write(record))

    async def _write(self, record: ExecutionRecord) -> None:
        try:
            await self._registry.add(record)
        except CallFailed as error:
            log.error("execution %s is not in the registry: %s", record.execution_id, error)
        finally:
            self.forget(record.execution_id)

    def session_opened(self, timeline: Timeline) -> None:
        """Record a new session, and how long its caller waited for a container."""
        self.metrics.waited("open", timeline)
        self.traces.waited(current(), timeline)
        self.metrics.session_opened()

    def session_ended(self, reason: SessionEnd) -> None:
        """Record the end of a session."""
        self.metrics.session_ended(reason)

    async def close(self) -> None:
        """Return once every row is written."""
        await self._writing.wait()

    async def get(self, execution_id: str, owner: str) -> ExecutionRecord:
        """The owner's execution of this id. Raises `ExecutionNotFound`."""
        entry = self._entries.get(execution_id)
        if entry is not None:
            found = entry.seen() if entry.owner == owner else None
        else:
            found = await self._registry.get(execution_id, owner)
        if found is None:
            raise ExecutionNotFound(execution_id)
        return found

    async def page(self, owner: str, limit: int, after: str | None) -> ExecutionPage:
        """The owner's executions, newest first. Raises `InvalidCursor`."""
        # In this order none is missed that is written meanwhile.
        here = [entry.seen() for entry in self._entries.values() if entry.owner == owner]
        if after is not None:
            created_at, identifier = read_cursor(after)
            here = [one for one in here if _position(one) < (created_at, identifier.hex)]
        written = await self._registry.page(owner, limit + 1, after)
        found = {one.execution_id: one for one in (*here, *written)}
        newest = sorted(found.values(), key=_position, reverse=True)
        page = tuple(newest[:limit])
        more = len(newest) > limit
        return ExecutionPage(page, make_cursor(page[-1].created_at, page[-1].execution_id) if more else None)


def _position(record: ExecutionRecord) -> tuple[float, str]:
    return record.created_at, record.execution_id


def _outcome(result: CellResult, kind: ExecutionKind) -> Outcome:
    if result.timed_out:
        return "timeout"
    if kind == "bash" and result.exit_code in range(1, 129):
        # That a shell's process ends is no death.
        return "error"
    if result.error is not None:
        return _OF_ERROR.get(result.error.name, "error")
    return "ok" if result.exit_code == 0 else "error"
