"""Frozen values that the parts of the domain exchange."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

DEFAULT_TTL_SEC: Final = 15 * 60
MAX_TTL_SEC: Final = 24 * 60 * 60
"""Default and longest time to live of a session, in seconds."""

_WARNING_SHARE: Final = 0.8
"""Share of the memory limit above which a result has a warning."""

Stream = Literal["stdout", "stderr"]
JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Caller:
    """The caller of a request, as its API key identifies it."""

    owner: str
    """Owner of the files, sessions and executions that the request reads and creates."""
    tenant: str
    """Owner as the pool sees it: for the reuse of containers, and for turns in the queue."""


@dataclass(frozen=True)
class Limits:
    """The limits of one container. Sizes are in bytes, times in seconds."""

    memory_bytes: int
    cpus: float
    pids: int
    workspace_bytes: int
    tmp_bytes: int
    lease_sec: float
    idle_cpu_sec: float


@dataclass(frozen=True)
class ContainerSpec:
    """Describes a container to launch.

    `limits.memory_bytes` is the limit of the whole container. `runtime` names an OCI runtime; None means the
    default of the engine.
    """

    image: str
    instance_id: str
    token: str
    preload: tuple[str, ...]
    limits: Limits
    idle_bytes: int = 0
    """Memory of an idle kernel that has imported `preload`, as measured; 0 before the measurement."""
    runtime: str | None = None


@dataclass(frozen=True)
class Container:
    """A running container and where its ports are reached."""

    container_id: str
    name: str
    host: str
    ports: Mapping[int, int]
    """Maps each port of `contract.PORTS` to the port at `host`."""
    user_id: int | None = None
    """uid of its user code; None if an earlier run of the service launched the container."""


@dataclass(frozen=True)
class Cell:
    """Code to run in a kernel, with its options.

    Attributes:
        final: the cell is a whole program; its kernel is not used again.
        counted: the cell increments the kernel's execution count.
        allow_stdin: `input()` sends an `InputRequest`; otherwise it reads end of file.
        note: text that the container keeps together with the cell.
        cell_id: 32 hexadecimal digits.
        asked: the `execute_request` of a Jupyter client; None if the service makes the request itself.
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


@dataclass(frozen=True, eq=False)
class _Message:
    """What all forms of a message of the Jupyter protocol have: a header with a `msg_id` and a `msg_type`."""

    header: JsonObject

    @property
    def kind(self) -> str:
        """The `msg_type` of the message."""
        return str(self.header.get("msg_type"))

    @property
    def message_id(self) -> str:
        """The `msg_id` of the message."""
        return str(self.header.get("msg_id"))


@dataclass(frozen=True)
class KernelMessage(_Message):
    """A message of the Jupyter protocol, unsigned."""

    parent_header: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)
    content: JsonObject = field(default_factory=dict)
    buffers: tuple[bytes, ...] = ()

    @property
    def parent_id(self) -> str | None:
        """The `msg_id` of the request that caused this message; None without one."""
        parent = self.parent_header.get("msg_id")
        return parent if isinstance(parent, str) else None

    def packed(self) -> "PackedMessage":
        """Return the message with its JSON encoded. Raises `ValueError` if it contains NaN or infinity."""
        parts = (self.header, self.parent_header, self.metadata, self.content)
        return PackedMessage(self.header, tuple(map(_json, parts)), self.buffers)


@dataclass(frozen=True, eq=False)
class PackedMessage(_Message):
    """A message of the Jupyter protocol whose JSON is encoded, so that its size in memory is known.

    Attributes:
        header: the header, whose size is bounded by whoever made the message.
        parts: header, parent header, metadata and content, each as UTF-8 JSON.
        buffers: binary data of the message.
    """

    parts: tuple[bytes, ...]
    buffers: tuple[bytes, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Size of the JSON parts and of the buffers, in bytes."""
        return sum(map(len, self.parts)) + sum(map(len, self.buffers))


def _json(value: JsonObject) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


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
    """The limits of one execution.

    CPU seconds, bytes of memory beyond those of an idle kernel, bytes of each stream, bytes of rich output.
    """

    cpu_sec: float
    memory_bytes: int
    output_bytes: int
    display_bytes: int
    cpu_setting: str = "CPU_TIME_LIMIT_SEC"
    """Name of the setting that `cpu_sec` comes from, for error messages."""
    memory_setting: str = "MEMORY_LIMIT_MB"
    """Name of the setting that `memory_bytes` comes from."""


@dataclass(frozen=True)
class OutputChunk:
    """A piece of stdout or stderr."""

    stream: Stream
    text: str


@dataclass(frozen=True)
class TextSpan:
    """A piece of a stream, from character `begin` to before character `end`."""

    stream: Stream
    begin: int
    end: int


Shown = TextSpan | int
"""A piece of text, or the index of a rich output."""


@dataclass(frozen=True)
class Mark:
    """The position in the text of a cell at which the kernel published the message of that id.

    User code can forge marks.
    """

    message_id: str


@dataclass(frozen=True)
class Display:
    """A rich output: a `display_data` or `execute_result` of nbformat.

    If `replaces` is true, it replaces the earlier displays of the same `display_id`.
    """

    output: JsonObject
    display_id: str | None = None
    replaces: bool = False


@dataclass(frozen=True)
class ClearOutput:
    """What the cell has shown is removed, text and displays; with `wait`, when the next output comes."""

    wait: bool


@dataclass(frozen=True)
class InputRequest:
    """A request of the code for a line of input. The code waits for the answer."""

    prompt: str
    password: bool


@dataclass(frozen=True)
class CellError:
    """The exception that ended a cell, or the limit or the death of the process."""

    name: str
    value: str
    traceback: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChangedFile:
    """A file in the workspace that the code has created or changed."""

    path: str
    size_bytes: int


@dataclass(frozen=True)
class SkippedFile:
    """A created or changed file that is not returned, and the reason."""

    path: str
    size_bytes: int
    reason: str


IdleAction = Literal["interrupted", "killed", "kernel killed"]
"""The furthest step: SIGINT for all, SIGKILL for all but the kernel, or SIGKILL for all."""


@dataclass(frozen=True)
class IdleStop:
    """Code that earlier calls left behind was stopped: it used too much CPU time while no call ran."""

    action: IdleAction
    limit_sec: float
    """The value of IDLE_CPU_SEC."""

    def __str__(self) -> str:
        left = "processes or threads that earlier calls left behind"
        done = {
            "interrupted": "they were interrupted",
            "killed": "all processes but the kernel were killed",
            "kernel killed": "all processes were killed, the kernel too",
        }
        return f"{left} used more than IDLE_CPU_SEC={self.limit_sec:g} s of CPU time; {done[self.action]}"


@dataclass(frozen=True)
class Usage:
    """What code used of its memory and CPU time."""

    memory_bytes: int
    """Most memory that the processes and variables held while the code ran, beyond that of an idle kernel.

    It is measured ten times a second and at the end.
    """
    memory_limit_bytes: int
    cpu_seconds: float

    def as_json(self) -> JsonObject:
        """Return the JSON object that answers contain."""
        return asdict(self)

    def warning(self, setting: str) -> str:
        """Return a sentence if the memory is nearly used up, or else nothing; `setting` names the limit."""
        used_mib, limit_mib = self.memory_bytes >> 20, self.memory_limit_bytes >> 20
        if self.memory_bytes < _WARNING_SHARE * self.memory_limit_bytes:
            return ""
        return (
            f"the code used {used_mib} MiB of memory; above {setting}={limit_mib} MiB its kernel is killed, "
            "and the variables are gone"
        )


@dataclass(frozen=True)
class CellResult:
    """How a cell ended. `outputs` are the rich outputs that a notebook would show after it.

    `order` is what it would show with them: text and outputs, as they were made.
    """

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
    usage: Usage
    order: tuple[Shown, ...]
    reply: JsonObject
    """Content of the kernel's reply, which user code can forge; empty without a reply."""
    display_bytes: int = 0
    """Approximate size of `outputs`."""
    gather_sec: float = 0.0
    """Seconds from the end of the code to this result."""
    supervisor_sec: float | None = None
    """Duration of the cell in seconds, measured by the supervisor; None if it was not reported."""
    kernel_sec: float | None = None
    """Duration of the code in seconds, as the kernel reports it. User code can forge it."""
    notice: str = ""
    """Says that code of earlier calls was stopped before this cell, or that memory runs low; may be empty."""
    idle_stop: IdleStop | None = None
    """Set if code that earlier calls left behind was stopped before this cell."""
    over_cpu_limit: bool = False
    """Whether the code was interrupted, or killed, at its limit of CPU time."""


CellEvent = OutputChunk | Mark | Display | ClearOutput | InputRequest | CellResult
