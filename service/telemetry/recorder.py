"""The recorder of one execution."""

import asyncio
from types import TracebackType
from typing import Final, Literal, Protocol, Self

from service.telemetry.request_context import RequestContext, current
from sessions import clock
from sessions.errors import CallFailed, SessionEnded, SessionsError
from sessions.kernels.errors import SupervisorFailed
from sessions.models import CellResult
from sessions.records import RUNNING, ExecutionKind, ExecutionRecord, FileOrigin, Outcome
from sessions.timeline import Timeline

Refusal = Literal["refused", "cancelled"]

_OUTCOME_OF_ERROR: Final[dict[str, Outcome]] = {
    "MemoryLimitExceeded": "memory",
    "CpuTimeLimitExceeded": "cpu",
    "KernelDied": "died",
}


class RecorderLog(Protocol):
    """Where a recorder reports what becomes of its execution; `ExecutionLog` implements it."""

    keeps_code: bool

    def refused(self, recorder: "ExecutionRecorder", kind: ExecutionKind, outcome: Refusal) -> None:
        """Count an execution whose code did not begin. It gets no row."""

    def finished(self, recorder: "ExecutionRecorder", record: ExecutionRecord) -> None:
        """Count and trace an execution that has ended."""

    def file_stored(self, origin: FileOrigin, size_bytes: int) -> None:
        """Count a file that an execution stored."""

    def forget(self, execution_id: str) -> None:
        """Drop the recorder: its row is written, or it gets none."""

    def write_soon(self, record: ExecutionRecord) -> None:
        """Write the row in the background."""


class ExecutionRecorder:
    """Follows one execution for the registry, the metrics and the traces; `sessions.ports.Recorder`.

    As a context manager it covers the time before the code runs: an error in the block ends the execution.
    """

    def __init__(
        self,
        executions: RecorderLog,
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
        self.context: RequestContext | None = current()
        """The request that asked for the execution."""
        self._files_in = self._files_in_bytes = 0
        self._files_out = self._files_out_bytes = 0
        self._run_began: float | None = None
        """Time at which the code began; None before that."""
        self._record: ExecutionRecord | None = None
        """The row; None until the execution has ended."""
        self._is_followed = False
        """Whether the code is followed to its end in the background."""
        self._caller_writes = False
        """Whether the caller is to write the row."""
        self._caller_left = False
        """Whether the caller disconnected, so that the code is being stopped."""
        self._executions = executions
        self._kind: ExecutionKind = kind
        self._session_id = session_id
        self._code = code
        self._code_bytes = len(code.encode())
        if self.context is not None:
            self.context.execution_id = execution_id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None and not self._is_followed:
            self.failed(error)

    def has_inputs(self, files: int, size_bytes: int) -> None:
        self._files_in, self._files_in_bytes = files, size_bytes

    def is_followed(self) -> None:
        self._is_followed = True

    def stored(self, origin: FileOrigin, size_bytes: int) -> None:
        self._executions.file_stored(origin, size_bytes)

    def began(self) -> None:
        self.began_at(clock.now())

    def began_at(self, time: float) -> None:
        """Note that the code began at a time, in seconds since the epoch."""
        self._run_began = time

    def did_not_begin(self) -> None:
        self._run_began = None

    def ran(self, result: CellResult) -> None:
        now = clock.now()
        ended = now - result.gather_sec
        began = ended if self._run_began is None else self._run_began
        self.timeline.ran(began, ended, result.supervisor_sec, result.kernel_sec)
        self.timeline.add("gather", ended, now)

    def ended(self, result: CellResult, files: int, size_bytes: int) -> ExecutionRecord:
        self._files_out, self._files_out_bytes = files, size_bytes
        self._caller_writes = True
        return self._end(
            self._make_record(
                self._outcome(result),
                exit_code=result.exit_code,
                timed_out=result.timed_out,
                duration_ms=result.duration_ms,
                stdout_bytes=result.stdout_bytes,
                stderr_bytes=result.stderr_bytes,
                display_bytes=result.display_bytes,
                cpu_ms=round(1000 * result.usage.cpu_seconds, 3),
            )
        )

    def caller_left(self) -> None:
        self._caller_left = True

    def is_written(self) -> None:
        self._caller_writes = False
        self._executions.forget(self.execution_id)

    def write_soon(self) -> None:
        if self._record is not None and self._caller_writes:
            self._caller_writes = False
            self._executions.write_soon(self._record)

    def failed(self, error: BaseException) -> None:
        """Note that an error ended the execution; do nothing if it has ended already.

        An execution whose code had begun gets a row. Any other one is counted as refused.
        """
        if self._record is not None:
            return
        if isinstance(error, SupervisorFailed):
            self._end_as("lost")
        elif isinstance(error, asyncio.CancelledError | GeneratorExit | SessionEnded):
            self.cancelled()
        elif self._run_began is None and isinstance(error, CallFailed | SessionsError):
            self._executions.refused(self, self._kind, "refused")
        else:
            self._end_as("failed")

    def cancelled(self) -> None:
        if self._record is None and self._run_began is None:
            self._executions.refused(self, self._kind, "cancelled")
        elif self._record is None:
            self._end_as("cancelled")

    def record(self) -> ExecutionRecord:
        """Return the row, or what is known so far if the execution still runs."""
        return self._record or self._make_record(RUNNING)

    def _outcome(self, result: CellResult) -> Outcome:
        outcome = _outcome_of(result, self._kind)
        return "cancelled" if self._caller_left and outcome in ("error", "died") else outcome

    def _end_as(self, outcome: Outcome) -> None:
        if self._run_began is not None and not self.timeline.seconds("run"):
            self.timeline.ran(self._run_began, clock.now(), None, None)
        self._executions.write_soon(self._end(self._make_record(outcome)))

    def _end(self, record: ExecutionRecord) -> ExecutionRecord:
        self._record = record
        self._executions.finished(self, record)
        return record

    def _make_record(
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
            duration_ms = 0 if self._run_began is None else round(1000 * (now - self._run_began))
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
            files_in=self._files_in,
            files_out=self._files_out,
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
            files_in_bytes=self._files_in_bytes,
            files_out_bytes=self._files_out_bytes,
            code=self._code if self._executions.keeps_code else None,
        )


def _outcome_of(result: CellResult, kind: ExecutionKind) -> Outcome:
    if result.timed_out:
        return "timeout"
    if kind == "bash" and result.exit_code in range(1, 129):
        # The end of a shell's process is not the death of a kernel.
        return "error"
    if result.error is not None:
        return _OUTCOME_OF_ERROR.get(result.error.name, "error")
    return "ok" if result.exit_code == 0 else "error"
