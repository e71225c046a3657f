"""How an execution ended, and what it printed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sessions.models import (
    CellError,
    Display,
    InputRequest,
    JsonObject,
    Mark,
    OutputChunk,
    SkippedFile,
    Stream,
    Usage,
)

State = Literal["kept", "restarted", "discarded"]
"""State of the variables after a call.

kept: the session's kernel goes on
restarted: the session has a new kernel
discarded: the call had no session, and its kernel is gone
"""


@dataclass(frozen=True)
class OutputFile:
    """A file that the code created or changed, stored."""

    path: str
    """Relative to the workspace."""
    file_id: str
    size_bytes: int


@dataclass(frozen=True)
class ExecutionResult:
    """How an execution ended: everything but the text that it printed."""

    exit_code: int | None
    timed_out: bool
    duration_ms: int
    files: tuple[OutputFile, ...]
    outputs: tuple[JsonObject, ...]
    """Rich outputs in the shapes of notebook format 4."""
    error: CellError | None
    state: State
    state_reason: str
    execution_count: int | None
    cell_id: str | None
    """None without a session."""
    execution_id: str
    truncated: tuple[str, ...]
    """Which of `stdout`, `stderr` and `outputs` were cut at a limit."""
    skipped_files: tuple[SkippedFile, ...]
    usage: Usage
    notice: str = ""
    """Says which processes of earlier calls were stopped between the calls, or that memory runs low."""

    def as_json(self) -> JsonObject:
        """Return the JSON object that a stream sends, and that is part of an answer."""
        error = self.error
        return {
            "exit_code": self.exit_code,
            "timed_out": self.timed_out,
            "duration_ms": self.duration_ms,
            "files": [
                {"path": file.path, "kind": "file", "file_id": file.file_id, "size_bytes": file.size_bytes}
                for file in self.files
            ],
            "outputs": list(self.outputs),
            "error": error and {"name": error.name, "value": error.value, "traceback": list(error.traceback)},
            "state": self.state,
            "state_reason": self.state_reason,
            "execution_count": self.execution_count,
            "cell_id": self.cell_id,
            "execution_id": self.execution_id,
            "truncated": list(self.truncated),
            "skipped_files": [
                {"path": file.path, "size_bytes": file.size_bytes, "reason": file.reason}
                for file in self.skipped_files
            ],
            "usage": self.usage.as_json(),
            "notice": self.notice,
        }


ExecutionEvent = OutputChunk | Mark | Display | InputRequest | ExecutionResult


@dataclass(frozen=True)
class FinishedExecution:
    """The text that an execution printed, and its result."""

    stdout: str
    stderr: str
    result: ExecutionResult

    def as_json(self) -> JsonObject:
        """Return the JSON object that the registry stores and the API answers."""
        return {"stdout": self.stdout, "stderr": self.stderr, **self.result.as_json()}


def gather(events: Sequence[ExecutionEvent]) -> FinishedExecution:
    """Return the finished execution whose events these are; the last one is its result."""
    result = events[-1]
    assert isinstance(result, ExecutionResult)
    text: dict[Stream, list[str]] = {"stdout": [], "stderr": []}
    for event in events:
        if isinstance(event, OutputChunk):
            text[event.stream].append(event.text)
    return FinishedExecution("".join(text["stdout"]), "".join(text["stderr"]), result)
