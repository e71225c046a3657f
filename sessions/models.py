"""Values that pass between the stages of an execution. All frozen."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

DEFAULT_TTL_SEC: Final = 15 * 60
MAX_TTL_SEC: Final = 24 * 60 * 60
"""How long a session lives unless it is extended, in seconds."""

Stream = Literal["stdout", "stderr"]
JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Caller:
    """Who sends a request."""

    owner: str
    """Owner of the files, sessions and executions that the request reads and creates."""
    tenant: str
    """Owner as the pool sees it: for the reuse of containers, and for turns in the queue."""


@dataclass(frozen=True)
class Limits:
    """What one container may use. Sizes in bytes, times in seconds."""

    memory_bytes: int
    cpus: float
    pids: int
    workspace_bytes: int
    tmp_bytes: int
    lease_sec: float


@dataclass(frozen=True)
class Image:
    """An image that the engine has; `command` is what a container of it starts.

    `labels` is None where the engine can't tell.
    """

    image_id: str
    labels: Mapping[str, str] | None
    command: tuple[str, ...]


@dataclass(frozen=True)
class EngineFacts:
    """What an engine says of itself and of its machine."""

    version: str
    storage_driver: str
    cgroup_version: str
    cgroup_driver: str
    missing_limits: tuple[str, ...]
    """Limits that its machine cannot set, by Docker's names: `PidsLimit`, …"""
    security: tuple[str, ...]
    """Its security options by name: `seccomp`, `rootless`, …"""
    live_restore: bool
    default_runtime: str
    runtimes: tuple[str, ...]
    warnings: tuple[str, ...]
    kernel: str
    system: str
    cpus: int
    memory_bytes: int
    folder: str
    """Where it keeps images and containers, on its own machine."""
    clock_ahead_sec: float
    """How much its clock is before this machine's; the answer took part of that."""
    is_local: bool
    """Whether it is reached by a socket of this machine."""


@dataclass(frozen=True)
class ContainerSpec:
    """What to launch: `memory_bytes` of the limits is the container's whole limit.

    `runtime` is the OCI runtime's name; None is the engine's default.
    """

    image: str
    instance_id: str
    token: str
    preload: tuple[str, ...]
    limits: Limits
    idle_bytes: int = 0
    """Memory of a kernel with all of `preload`, where it is known: in no kernel that is the user's."""
    runtime: str | None = None


@dataclass(frozen=True)
class Container:
    """A running container and where its published ports are."""

    container_id: str
    name: str
    host: str
    ports: Mapping[int, int]
    """Port inside the container (`contract.PORTS`) to port at `host`."""


@dataclass(frozen=True)
class Surroundings:
    """Addresses around a container, none of which user code may reach.

    `gateway` is the engine's machine on the containers' network; `peers` are other containers there.
    `host` is the address at which this service reaches published ports; `service_ports` are the ports there
    on which the service itself is published. `others` are further addresses, such as the cluster's API.
    """

    gateway: str
    peers: tuple[str, ...]
    host: str
    service_ports: tuple[int, ...] = ()
    others: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Cell:
    """One execution.

    `final`: the cell is a whole program, whose kernel is not used again. `counted`: it moves the
    kernel's execution count. `allow_stdin`: the code may ask (`InputRequest`) instead of reading
    end of file. `cell_id` is hexadecimal. The container keeps `note` as long as it keeps the cell.
    `asked` is the kernel message that asks for the cell, where somebody else has made it.
    """

    code: str
    stdin: str | None
    timeout_sec: float
    last_line_interactive: bool
    final: bool
    counted: bool = True
    allow_stdin: bool = False
    note: str = ""
    cell_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    asked: "KernelMessage | None" = None


@dataclass(frozen=True)
class KernelMessage:
    """A message of the Jupyter protocol without its envelope; `header` has a `msg_id` and a `msg_type`."""

    header: JsonObject
    parent_header: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)
    content: JsonObject = field(default_factory=dict)
    buffers: tuple[bytes, ...] = ()

    @property
    def kind(self) -> str:
        """Its `msg_type`."""
        return str(self.header.get("msg_type"))

    @property
    def message_id(self) -> str:
        """Its `msg_id`."""
        return str(self.header.get("msg_id"))

    @property
    def parent_id(self) -> str | None:
        """The `msg_id` of the message it belongs to."""
        parent = self.parent_header.get("msg_id")
        return parent if isinstance(parent, str) else None


@dataclass(frozen=True)
class Command:
    """A shell command, run in the workspace by `bash -c`."""

    command: str
    timeout_sec: float
    cell_id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class WorkspaceEntry:
    """A regular file in the workspace; `modified_at` in seconds since the epoch."""

    path: str
    size_bytes: int
    modified_at: float


@dataclass(frozen=True)
class Budget:
    """What one cell may use and send.

    CPU seconds, bytes of memory beyond the idle kernel's, bytes of each stream and of rich output.
    """

    cpu_sec: float
    memory_bytes: int
    output_bytes: int
    display_bytes: int
    cpu_setting: str = "CPU_TIME_LIMIT_SEC"
    """What an operator knows `cpu_sec` as."""


@dataclass(frozen=True)
class OutputChunk:
    """A piece of stdout or stderr, as it comes."""

    stream: Stream
    text: str


@dataclass(frozen=True)
class Mark:
    """Here in its text a notebook's cell has published the message of that id, or says so."""

    message_id: str


@dataclass(frozen=True)
class Display:
    """A rich output, as it comes: an nbformat display_data or execute_result.

    With `replaces` it takes the place of the earlier ones of the same `display_id`.
    """

    output: JsonObject
    display_id: str | None = None
    replaces: bool = False


@dataclass(frozen=True)
class InputRequest:
    """The code asks for a line of input and waits."""

    prompt: str
    password: bool


@dataclass(frozen=True)
class CellError:
    """Why a cell did not end well: the exception of the code, or what stopped it."""

    name: str
    value: str
    traceback: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChangedFile:
    """A file in the workspace that is new or differs."""

    path: str
    size_bytes: int


@dataclass(frozen=True)
class SkippedFile:
    """A file that was not returned, and why."""

    path: str
    size_bytes: int
    reason: str


@dataclass(frozen=True)
class CellResult:
    """How a cell ended. `outputs` are those a notebook would show at the end."""

    exit_code: int | None
    timed_out: bool
    duration_ms: int
    error: CellError | None
    kernel_alive: bool
    outputs: tuple[JsonObject, ...]
    execution_count: int | None
    changed: tuple[ChangedFile, ...]
    skipped: tuple[SkippedFile, ...]
    truncated: tuple[str, ...]
    stdout_bytes: int
    stderr_bytes: int
    cpu_sec: float
    reply: JsonObject
    """What the kernel replied, believed in nothing; empty where it did not."""
    display_bytes: int = 0
    """About what `outputs` take."""
    gather_sec: float = 0.0
    """From the code's end to this result."""
    supervisor_sec: float | None = None
    """From the cell's beginning to its end as the supervisor saw it; None where it did not say."""
    kernel_sec: float | None = None
    """How long the code ran, as the kernel says: the code may have made it say so."""


CellEvent = OutputChunk | Mark | Display | InputRequest | CellResult
