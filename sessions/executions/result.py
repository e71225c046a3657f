"""How an execution ended, and what it printed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sessions.models import (
    CellError,
    ClearOutput,
    Display,
    InputRequest,
    JsonObject,
    Mark,
    OutputChunk,
    Shown,
    SkippedFile,
    Stream,
    TextSpan,
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
    order: tuple[Shown, ...]
    """The text and the outputs that a notebook would show, as they were made."""
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
        """Return the JSON object that a stream sends, and that is part of an answer, without the order."""
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


ExecutionEvent = OutputChunk | Mark | Display | ClearOutput | InputRequest | ExecutionResult


@dataclass(frozen=True)
class FinishedExecution:
    """The text that an execution printed, and its result."""

    stdout: str
    stderr: str
    result: ExecutionResult

    def as_json(self) -> JsonObject:
        """Return the JSON object that the API answers."""
        return {"stdout": self.stdout, "stderr": self.stderr, **self.result.as_json()}

    def as_record(self) -> JsonObject:
        """Return the JSON object that the registry stores.

        It has the order, too: an output is its index, and a text is its stream with two positions. These
        count the bytes of the JSON string in UTF-8, because the registry is read in pieces of bytes.
        """
        at: dict[Stream, tuple[int, int]] = {"stdout": (0, 0), "stderr": (0, 0)}

        def in_bytes(stream: Stream, end: int) -> int:
            characters, size = at[stream]
            size += _json_bytes(self.text(TextSpan(stream, characters, end)))
            at[stream] = (end, size)
            return size

        order = [
            entry
            if isinstance(entry, int)
            else [
                entry.stream,
                in_bytes(entry.stream, entry.begin),
                in_bytes(entry.stream, entry.end),
            ]
            for entry in self.order()
        ]
        return {**self.as_json(), "order": order}

    def text(self, span: TextSpan) -> str:
        """Return a piece of the text."""
        return (self.stdout if span.stream == "stdout" else self.stderr)[span.begin : span.end]

    def order(self) -> list[Shown]:
        """Return the order without the text of the last value, which is printed and an output."""
        order: list[Shown] = []
        for entry in self.result.order:
            last = order[-1] if order else None
            if isinstance(entry, int) and isinstance(last, TextSpan) and last.stream == "stdout":
                end = last.end - self._printed_value(last, self.result.outputs[entry])
                order[-1:] = [replace(last, end=end)] if end > last.begin else []
            order.append(entry)
        return order

    def _printed_value(self, span: TextSpan, output: JsonObject) -> int:
        """Return how many characters at the end of a text are the value that an output shows."""
        value = output["data"].get("text/plain")
        if output["output_type"] != "execute_result" or not isinstance(value, str):
            return 0
        return len(value) + 1 if self.text(span).endswith(f"{value}\n") else 0

    def ordered_outputs(self) -> list[JsonObject]:
        """Return text and rich outputs as a notebook shows them: text is a `stream` of notebook format 4."""
        return [
            self.result.outputs[entry]
            if isinstance(entry, int)
            else {"output_type": "stream", "name": entry.stream, "text": self.text(entry)}
            for entry in self.order()
        ]


def _json_bytes(text: str) -> int:
    """Return the size of a JSON string without its quotation marks, in UTF-8."""
    return len(json.dumps(text, ensure_ascii=False).encode()) - 2


def gather(events: Sequence[ExecutionEvent]) -> FinishedExecution:
    """Return the finished execution whose events these are; the last one is its result."""
    result = events[-1]
    assert isinstance(result, ExecutionResult)
    text: dict[Stream, list[str]] = {"stdout": [], "stderr": []}
    for event in events:
        if isinstance(event, OutputChunk):
            text[event.stream].append(event.text)
    return FinishedExecution("".join(text["stdout"]), "".join(text["stderr"]), result)
