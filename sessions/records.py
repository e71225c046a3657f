"""Records: rows of the registry as frozen dataclasses.

All times are seconds since the epoch.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from sessions.models import JsonObject

FileOrigin = Literal["upload", "output", "display"]
CellState = Literal["running", "done", "lost"]
"""``lost``: the cell began, and its end is not known."""
Removed = Literal["result", "code"]
"""The part of a cell that was removed: its result, or its code as well."""
ExecutionKind = Literal["execute", "session", "bash"]
"""A one-shot execution, a cell of a session, or a shell command in a session."""
Outcome = Literal["ok", "error", "timeout", "memory", "cpu", "died", "lost", "cancelled", "failed", "running"]
"""
ok: the code ended with exit code 0
error: an exception, or another exit code
timeout, memory, cpu: the code reached that limit
died: the process of the code was killed, or ended itself
lost: the container failed
cancelled: the caller disconnected, or the session was ended
failed: the service had an internal error
running: the execution has not ended; no row has this outcome
"""
RUNNING: Final = "running"
SessionEnd = Literal["expired", "idle", "deleted", "lost"]

TEXT_BYTES: Final = 1 << 19
"""Most bytes of the texts of cells that a reader has in memory at once."""

ONE_TENANT: Final = "default"
"""The owner of everything while no API keys are set. A key of this name later owns the same things."""


@dataclass(frozen=True)
class StoredFile:
    """A stored file. The storage has its bytes under the same id."""

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
    """The execution that created the file; None for an upload."""
    owner: str = ONE_TENANT
    """Name of the API key that it belongs to."""
    ends_sha256: str | None = None
    """Digest of the first and the last block; None for a small file, and for one of an earlier version."""


@dataclass(frozen=True)
class ExecutionRecord:
    """An execution that has ended.

    Fields with `_ms` are the stages of `sessions.timeline`, in milliseconds. They are None in old rows, and
    if the end of the execution is not known.
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
    """Approximate size of the rich outputs."""
    files_in_bytes: int | None = None
    files_out_bytes: int | None = None
    code: str | None = None
    """None unless KEEP_CODE is set."""


@dataclass(frozen=True)
class ContainerRecord:
    """A container that this service has launched, and how to connect to its kernel again."""

    container_id: str
    """The id that the engine has given."""
    name: str
    instance_id: str
    state: str
    created_at: float
    address: str
    """Host name or IP address at which the ports are reached."""
    supervisor_port: int
    shell_port: int
    iopub_port: int
    token: str = field(repr=False)
    """The supervisor refuses calls without this token."""
    kernel_key: str = field(repr=False)
    """The key that signs the kernel's messages."""
    removed_at: float | None = None
    engine_id: str | None = None
    """Id of the engine; None if no other service can reach the engine."""


@dataclass(frozen=True)
class SessionRecord:
    """A session, open or ended."""

    session_id: str
    """A version 4 UUID in its canonical lower-case form."""
    container_id: str
    instance_id: str
    created_at: float
    expires_at: float
    last_used_at: float
    ended_at: float | None = None
    """None while the session is open."""
    end_reason: SessionEnd | None = None
    owner: str = ONE_TENANT
    """Name of the API key that it belongs to."""
    holder: str | None = None
    """Id of the replica that holds the session; None if none does, or without replicas."""


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
    """A cell of a session, running or ended."""

    cell_id: str
    """A version 4 UUID as 32 hexadecimal digits."""
    session_id: str
    number: int
    """Place among the cells of the session, from 1. A restart of the kernel does not reset it."""
    code: str
    state: CellState
    started_at: float
    timeout_ms: int
    finished_at: float | None = None
    result: JsonObject | None = None
    """The response as JSON, also if no caller waited for it; None until the cell is done."""
    removed: Removed | None = None
    """Set if a part was removed, because the owner's history was over its limit."""


@dataclass(frozen=True)
class StoredText:
    """A text in the registry, which is read in pieces."""

    size: int
    """In bytes, as UTF-8."""
    read: Callable[[int, int], Awaitable[bytes]]
    """Return some bytes from a position on: as many as are asked for, or those that are left.

    It raises `RegistryUnavailable` if the text was removed meanwhile.
    """


@dataclass(frozen=True)
class StoredCell:
    """A cell of a session, with texts that are not in memory if they are long."""

    record: CellRecord
    """The cell without its code and result."""
    code: StoredText
    result: StoredText | None
    """The response as JSON."""


@dataclass(frozen=True)
class CellSize:
    """A cell, and how much of it is in the registry."""

    cell_id: str
    size_bytes: int
    """Size of the code and the result together."""


@dataclass(frozen=True)
class CellPage:
    """Some cells of a session, by number, and the cursor of the next page; None on the last one."""

    cells: tuple[CellSize, ...]
    next: str | None


@dataclass(frozen=True)
class CellSummary:
    """The cells of a session in short. The numbers are 0 without cells."""

    last_number: int
    execution_count: int
    """Execution count of the last cell that has one."""
    last_finished_at: float | None
