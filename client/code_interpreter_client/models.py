"""What the service answers, as frozen dataclasses. Times are seconds since the epoch, sizes bytes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from code_interpreter_client import bundles
from code_interpreter_client.errors import CodeFailed
from code_interpreter_client.images import Image, images_in

State = Literal["kept", "restarted", "lost"]


@dataclass(frozen=True)
class ResultFile:
    """A file that the code made or changed, stored under `file_id`."""

    path: str
    file_id: str
    size_bytes: int


@dataclass(frozen=True)
class SkippedFile:
    """A file that the code made or changed, but that was not stored, and why."""

    path: str
    size_bytes: int
    reason: str


@dataclass(frozen=True)
class ExecutionError:
    """Why the code did not come to its end: an exception, or a limit (`TimeoutExceeded`, …)."""

    name: str
    value: str
    traceback: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """A rich output: `display_data` or `execute_result` of notebook format 4. `data` is by media type."""

    output_type: str
    data: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    execution_count: int | None = None

    @property
    def text(self) -> str:
        """Its plain text; empty without one."""
        text = self.data.get("text/plain", "")
        return text if isinstance(text, str) else ""

    @property
    def images(self) -> list[Image]:
        """Its images, decoded; the sharpest kind first."""
        return images_in(self.data, self.metadata)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> bundles.Bundle:
        return bundles.of_output(self)


@dataclass(frozen=True)
class Result:
    """How an execution ended.

    `exit_code` is as a shell reports it, None after a timeout. `state` is what became of the variables.
    `truncated` names what was cut: stdout, stderr, outputs.
    """

    exit_code: int | None
    timed_out: bool
    duration_ms: int
    stdout: str = ""
    stderr: str = ""
    outputs: tuple[Output, ...] = ()
    files: tuple[ResultFile, ...] = ()
    error: ExecutionError | None = None
    state: State = "lost"
    state_reason: str = ""
    execution_count: int | None = None
    execution_id: str = ""
    cell_id: str | None = None
    truncated: tuple[str, ...] = ()
    skipped_files: tuple[SkippedFile, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the code came to its end, with exit code 0."""
        return self.exit_code == 0 and self.error is None

    @property
    def failure(self) -> str:
        """Why it is not `ok`, in one line; empty if it is."""
        if self.error is not None:
            return f"{self.error.name}: {self.error.value}".removesuffix(": ")
        if self.timed_out:
            return "the code ran out of its time"
        return "" if self.exit_code == 0 else f"the code ended with exit code {self.exit_code}"

    @property
    def images(self) -> list[Image]:
        """All images it showed, one for each output that has some."""
        return [output.images[0] for output in self.outputs if output.images]

    def summary(self, most_characters: int = 10_000) -> str:
        """What a language model is to be told: what was printed, and the names of what was shown and made."""
        parts = [_shortened(text, most_characters) for text in (self.stdout, self.stderr) if text]
        if self.failure and not self.stderr:
            parts.append(f"[{self.failure}]")
        if self.images:
            parts.append(f"[images shown: {len(self.images)}]")
        if self.files:
            parts.append("[files written: " + ", ".join(file.path for file in self.files) + "]")
        return "\n".join(part.rstrip("\n") for part in parts) or "[nothing was printed]"

    def check(self) -> "Result":
        """This result, if it is `ok`. Raises `CodeFailed`."""
        if not self.ok:
            raise CodeFailed(self)
        return self

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> bundles.Bundle:
        return bundles.of_result(self)


def _shortened(text: str, most: int) -> str:
    """`text` without its middle, if it is long."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}\n[{len(text) - most} characters left out]\n{text[len(text) - most // 2 :]}"


# What a stream gives


@dataclass(frozen=True)
class Printed:
    """Text, as it is printed."""

    stream: Literal["stdout", "stderr"]
    text: str = field(metadata={"wire": "data"})


@dataclass(frozen=True)
class Shown(Output):
    """A rich output, as it is shown; `update_display_data` replaces what has the same `display_id`."""

    transient: dict[str, Any] | None = None

    @property
    def display_id(self) -> str | None:
        """What an update refers to."""
        value = (self.transient or {}).get("display_id")
        return value if isinstance(value, str) else None


@dataclass(frozen=True)
class InputRequest:
    """The code asks for a line and waits for `Session.answer`."""

    prompt: str
    password: bool = False


Event = Printed | Shown | InputRequest | Result
"""The last of a stream is its `Result`, whose `stdout` and `stderr` have all that was printed."""


# Files


@dataclass(frozen=True)
class StoredFile:
    """A stored file, for executions to use."""

    file_id: str
    filename: str
    size_bytes: int
    upload_time: float
    sha256: str = ""
    media_type: str = "application/octet-stream"
    expires_at: float | None = None


@dataclass(frozen=True)
class FileList:
    """A page of stored files; `next` leads to the one after it."""

    files: tuple[StoredFile, ...]
    next: str | None = None


@dataclass(frozen=True)
class WorkspaceFile:
    """A file in a session's working folder."""

    path: str
    size_bytes: int
    modified_at: float | None = None


@dataclass(frozen=True)
class WorkspaceFileList:
    """All files in a session's working folder."""

    files: tuple[WorkspaceFile, ...]


# Sessions


@dataclass(frozen=True)
class SessionInfo:
    """An open session. `state` is `ready` or `busy`."""

    session_id: str
    expires_at: float
    created_at: float | None = None
    idle_expires_at: float | None = None
    last_used_at: float | None = None
    state: Literal["ready", "busy"] = "ready"
    execution_count: int = 0


@dataclass(frozen=True)
class SessionList:
    """The open sessions, oldest first."""

    sessions: tuple[SessionInfo, ...]


@dataclass(frozen=True)
class CommandResult:
    """How a shell command ended; `exit_code` is None after a timeout."""

    stdout: str
    stderr: str
    exit_code: int | None
    timed_out: bool
    duration_ms: int
    execution_id: str


@dataclass(frozen=True)
class Started:
    """Code that runs on its own now."""

    cell_id: str
    execution_id: str


@dataclass(frozen=True)
class Cell:
    """Code that ran, or runs, in a session. `state` is `running`, `done` or `lost`."""

    cell_id: str
    number: int
    code: str
    state: Literal["running", "done", "lost"]
    started_at: float
    finished_at: float | None = None
    result: Result | None = None


@dataclass(frozen=True)
class CellList:
    """What ran in a session, in order."""

    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Completion:
    """What can take the place of the characters from `cursor_start` to `cursor_end`."""

    matches: tuple[str, ...]
    cursor_start: int
    cursor_end: int

    def __iter__(self) -> Iterator[str]:
        return iter(self.matches)


@dataclass(frozen=True)
class Inspection:
    """What is known of a name, by media type."""

    found: bool
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The description; empty if nothing is known."""
        return str(self.data.get("text/plain", ""))


@dataclass(frozen=True)
class Health:
    """Whether the service works: `status` is `ok` or `error`."""

    status: str
    version: str = ""
    message: str | None = None
