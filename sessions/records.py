"""What the registry remembers, as frozen values: rows never leave ``service/database/registry.py``.

Times are seconds since the epoch.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

from sessions.models import JsonObject

FileOrigin = Literal["upload", "output", "display"]
CellState = Literal["running", "done", "lost"]
"""``lost``: it began, and what became of it is not known."""
ExecutionKind = Literal["execute", "session", "bash"]
"""Without a session; a cell of one; a shell command in one."""
Outcome = Literal["ok", "error", "timeout", "memory", "cpu", "died", "lost", "cancelled", "failed", "running"]
"""
error: an exception, or an exit status other than 0
timeout, memory, cpu: a limit ended it
died: its process was ended, or ended itself
lost: its container was lost
cancelled: whoever asked for it went away, or its session was ended
failed: the service could not go on
running: it has not ended; in no row
"""
RUNNING: Final = "running"
SessionEnd = Literal["expired", "idle", "deleted", "lost"]

ONE_TENANT: Final = "default"
"""Whose all is where no keys are set. A key of this name has what was made before there were keys."""


@dataclass(frozen=True)
class StoredFile:
    """A file whose bytes are on disk under its id."""

    file_id: str
    """A version 4 UUID in its canonical lower-case form."""
    filename: str
    size_bytes: int
    sha256: str
    """Lower-case hexadecimal."""
    media_type: str
    created_at: float
    expires_at: float | None = None
    """None: never."""
    origin: FileOrigin = "upload"
    execution_id: str | None = None
    """The execution that made it; None for an upload."""
    owner: str = ONE_TENANT
    """Name of the key it belongs to."""


@dataclass(frozen=True)
class ExecutionRecord:
    """That code ran and how it ended.

    Milliseconds of its stages are those of `sessions.timeline`. None where it was not measured, as
    before there were such columns, and of what was lost.
    """

    execution_id: str
    created_at: float
    finished_at: float
    outcome: str
    exit_code: int | None
    timed_out: bool
    duration_ms: int
    stdout_bytes: int
    stderr_bytes: int
    files_in: int
    files_out: int
    owner: str = ONE_TENANT
    kind: ExecutionKind = "execute"
    session_id: str | None = None
    queue_ms: float | None = None
    start_ms: float | None = None
    stage_ms: float | None = None
    run_ms: float | None = None
    gather_ms: float | None = None
    store_ms: float | None = None
    cpu_ms: float | None = None
    code_bytes: int | None = None
    display_bytes: int | None = None
    """About what its rich outputs take."""
    files_in_bytes: int | None = None
    files_out_bytes: int | None = None
    code: str | None = None
    """None unless KEEP_CODE is set."""


@dataclass(frozen=True)
class ContainerRecord:
    """A container this service made, and all it takes to speak to its kernel again."""

    container_id: str
    """The engine's id."""
    name: str
    instance_id: str
    state: str
    created_at: float
    address: str
    """Host name or IP address the ports are published on."""
    supervisor_port: int
    shell_port: int
    iopub_port: int
    token: str = field(repr=False)
    """What the supervisor asks of its callers."""
    kernel_key: str = field(repr=False)
    """What signs the kernel's messages."""
    removed_at: float | None = None
    engine_id: str | None = None
    """Which engine it is on; None where no other service could reach it."""


@dataclass(frozen=True)
class SessionRecord:
    """A kernel that is kept between calls, also after it has ended."""

    session_id: str
    """A version 4 UUID in its canonical lower-case form."""
    container_id: str
    instance_id: str
    created_at: float
    expires_at: float
    last_used_at: float
    ended_at: float | None = None
    """None: it is live."""
    end_reason: SessionEnd | None = None
    owner: str = ONE_TENANT
    """Name of the key it belongs to."""
    holder: str | None = None
    """The replica that has it; None: none has, or there are no replicas."""


@dataclass(frozen=True)
class OpenSessionRecord:
    """An open session as the registry knows it, wherever it is held."""

    record: SessionRecord
    busy: bool
    """Whether a cell runs that has run for some milliseconds: shorter ones have no row yet."""
    cells: int
    """Number of its last cell."""


@dataclass(frozen=True)
class CellRecord:
    """Code that ran, or runs, in a session."""

    cell_id: str
    """A version 4 UUID as 32 hexadecimal digits."""
    session_id: str
    number: int
    """Its place among the session's cells; 1 for the first, also counted on after a restart."""
    code: str
    state: CellState
    started_at: float
    timeout_ms: int
    finished_at: float | None = None
    result: JsonObject | None = None
    """The answer its caller got or would have got, as JSON; None while there is none."""
