"""Sessions, their cells, and answers of their kernels."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from code_interpreter_client.models.results import Result, Usage


@dataclass(frozen=True)
class SessionInfo:
    """An open session. `state` is `busy` while code runs in it."""

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
    """How a shell command ended. `exit_code` is None after a timeout.

    `notice` and `usage` are as in `Result`.
    """

    stdout: str
    stderr: str
    exit_code: int | None
    timed_out: bool
    duration_ms: int
    execution_id: str
    usage: Usage | None = None
    notice: str = ""


@dataclass(frozen=True)
class Started:
    """A cell that runs without a caller that waits for it."""

    cell_id: str
    execution_id: str


@dataclass(frozen=True)
class Cell:
    """A cell of a session. `result` is None while the cell runs, and if its result was lost or removed.

    `removed` names what the service removed because the history of the key was too large: the `result`, or
    with `code` the code as well.
    """

    cell_id: str
    number: int
    code: str
    state: Literal["running", "done", "lost"]
    started_at: float
    finished_at: float | None = None
    result: Result | None = None
    removed: Literal["result", "code"] | None = None


@dataclass(frozen=True)
class CellPage:
    """Cells of a session, in the order in which they ran. `next` is `after` of the next page, or None."""

    cells: tuple[Cell, ...]
    next: str | None = None


@dataclass(frozen=True)
class Completion:
    """Texts that can replace the characters from `cursor_start` to `cursor_end`."""

    matches: tuple[str, ...]
    cursor_start: int
    cursor_end: int

    def __iter__(self) -> Iterator[str]:
        return iter(self.matches)


@dataclass(frozen=True)
class Inspection:
    """The documentation of a name, by media type."""

    found: bool
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The documentation as plain text; empty if there is none."""
        return str(self.data.get("text/plain", ""))
