"""Protocols that the domain defines and `service` implements: rows, files, limits, recording, replicas.

The domain gets these objects when it is built. It imports nothing of `service`.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from sessions.models import CellResult, JsonObject
from sessions.records import (
    CellPage,
    CellRecord,
    CellState,
    CellSummary,
    ContainerRecord,
    ExecutionKind,
    ExecutionRecord,
    FileOrigin,
    OpenSessionRecord,
    SessionEnd,
    SessionRecord,
    StoredCell,
    StoredFile,
)
from sessions.timeline import Timeline

# --- rows -----------------------------------------------------------------------------------------


class SessionRows(Protocol):
    """Rows of sessions and of their cells.

    Every method raises `RegistryUnavailable` if the database fails, and `StorageFull` if its disk is full.
    """

    async def get_session(self, session_id: str, owner: str) -> SessionRecord | None:
        """Return the owner's session of this id, also an ended one; None if there never was one."""

    async def update_session(
        self, session_id: str, *, expires_at: float | None = None, last_used_at: float | None = None
    ) -> bool:
        """Change the values that are not None; return False if there is no open session of this id."""

    async def end_session(self, session_id: str, reason: SessionEnd, at: float) -> bool:
        """End a session, and mark its running cells as lost; return False if it has ended already."""

    async def add_cell(self, cell: CellRecord) -> None:
        """Add a cell to a session that has a row."""

    async def finish_cell(
        self, cell_id: str, state: CellState, finished_at: float, result: JsonObject | None
    ) -> bool:
        """Write how a cell ended; return False if the cell is done already or unknown."""

    async def keep_result(self, cell: CellRecord, execution: ExecutionRecord, *, is_new: bool) -> None:
        """Write a finished cell and its execution. `is_new`: the cell has no row yet.

        Older cells of the owner may lose their results, so that its history stays within its limit. A result
        that is larger than the limit is not kept. The rows say so.
        """

    async def add_command(self, session_id: str, execution: ExecutionRecord) -> None:
        """Add a shell command that ran in a session, and the time at which it used the session."""

    async def get_cell(self, session_id: str, cell_id: str) -> CellRecord | None:
        """Return the session's cell of this id; None if the session has none."""

    async def stored_cells(self, cell_ids: Sequence[str]) -> list[StoredCell]:
        """Return the cells that still exist, by number. Texts of up to `TEXT_BYTES` are in memory."""

    async def cells(self, session_id: str, limit: int, after: str | None = None) -> CellPage:
        """Return at most `limit` cells of a session by number, and fewer if they are large.

        `after` is `next` of the page before.
        """

    async def summary(self, session_id: str) -> CellSummary:
        """Return the cells of a session in short."""

    async def running_cells(self, session_id: str) -> list[CellRecord]:
        """Return the cells of a session that have not ended, by number."""


class ContainerRows(Protocol):
    """Rows of containers. Errors as in `SessionRows`."""

    async def get_container(self, container_id: str) -> ContainerRecord | None:
        """Return a container that has not been removed; None if there is none of this id.

        Raises:
            SecretUnreadable: its secrets cannot be decrypted.
        """

    async def update_container_key(self, container_id: str, kernel_key: str) -> None:
        """Write the key of the kernel that now runs in a container."""


# --- files ----------------------------------------------------------------------------------------


class OpenFile(Protocol):
    """A stored file that is open for reading, as a context manager that closes it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the bytes of the file."""


class StoredFiles(Protocol):
    """Stored files of all owners: their rows and their bytes."""

    async def get(self, file_id: str, owner: str) -> StoredFile:
        """Return the owner's file of this id. Raises `FileNotFound`, also once the file has expired."""

    async def open(self, file_id: str, owner: str) -> OpenFile:
        """Open a file of the owner's for reading. Raises `FileNotFound`, `FileDamaged`, `StorageFailed`."""

    async def save(
        self,
        chunks: AsyncIterable[bytes],
        filename: str,
        *,
        owner: str,
        origin: FileOrigin = "upload",
        execution_id: str | None = None,
        media_type: str | None = None,
    ) -> StoredFile:
        """Store the bytes that `chunks` yields; an error leaves nothing behind.

        Args:
            filename: any text without lone surrogates; it is never used as a path.
            media_type: None to derive it from the filename.

        Raises:
            FileTooLarge: the file is larger than a stored file may be.
            StorageQuotaExceeded: the owner is over the quota.
            StorageFull: the storage is full.
            StorageFailed: the storage fails.
            RegistryUnavailable: the file could not be registered.
        """


# --- limits ---------------------------------------------------------------------------------------


class OwnerLimit(Protocol):
    """How many executions of each owner may run or wait at once."""

    def one_of(self, owner: str, *, runs_already: bool = False) -> AbstractContextManager[None]:
        """Count one execution during the block.

        Raises:
            TooManyExecutions: the owner is at the limit, and the execution does not run already.
        """


# --- recording ------------------------------------------------------------------------------------


class Recorder(Protocol):
    """Follows one execution for the registry, the metrics and the traces.

    As a context manager it covers the time before the code runs: an error in the block ends the execution.
    """

    @property
    def execution_id(self) -> str:
        """32 hexadecimal digits."""

    @property
    def owner(self) -> str:
        """Name of the key that the execution belongs to."""

    @property
    def timeline(self) -> Timeline:
        """The stages so far."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def has_inputs(self, files: int, size_bytes: int) -> None:
        """Note the number of inputs and their size together."""

    def began(self) -> None:
        """Note that the code has begun."""

    def did_not_begin(self) -> None:
        """Take back `began`: the container did not take the code."""

    def is_followed(self) -> None:
        """Note that the code is followed to its end in the background: an error in the block ends nothing."""

    def ran(self, result: CellResult) -> None:
        """Note that the code has ended. What it produced, except for its files, is known."""

    def stored(self, origin: FileOrigin, size_bytes: int) -> None:
        """Note that an image or a file of the execution was stored."""

    def ended(self, result: CellResult, files: int, size_bytes: int) -> ExecutionRecord:
        """Note that all files are stored, and return the row.

        The caller writes the row and then calls `is_written`, or calls `write_soon`.
        """

    def caller_left(self) -> None:
        """Note that the caller disconnected and that the code is therefore being stopped."""

    def is_written(self) -> None:
        """Note that the caller has written the row."""

    def write_soon(self) -> None:
        """Write the row in the background, unless it is written or there is none."""

    def failed(self, error: BaseException) -> None:
        """Note that an error ended the execution; do nothing if it has ended already."""

    def cancelled(self) -> None:
        """Note that the caller or the session ended the execution; do nothing if it has ended already."""


class Recording(Protocol):
    """Records executions and sessions."""

    def begin(self, kind: ExecutionKind, owner: str, code: str, session_id: str | None = None) -> Recorder:
        """Return the recorder of a new execution, for a `with` block that ends when the code runs."""

    def resume(self, execution_id: str, owner: str, code: str, session_id: str, began: float) -> Recorder:
        """Return a recorder for a cell that was begun before the service restarted, and still runs."""

    def lose(self, cell: CellRecord, owner: str) -> None:
        """Record that the end of a cell, begun before the service restarted, cannot be known."""

    def session_opened(self, timeline: Timeline) -> None:
        """Record a new session, and how long its caller waited for a container."""

    def session_ended(self, reason: SessionEnd) -> None:
        """Record the end of a session."""


# --- replicas -------------------------------------------------------------------------------------


class Replicas(Protocol):
    """Which sessions this service holds, alone or as one of several replicas that share a registry."""

    @property
    def holder(self) -> str | None:
        """The id of this replica, for the rows of its sessions; None without replicas."""

    @property
    def is_sure(self) -> bool:
        """Whether no other replica can have taken the sessions that this one holds."""

    def call_when_lost(self, let_go: Callable[[], Awaitable[None]]) -> None:
        """Register a function, which is awaited when other replicas may have taken this one's sessions."""

    async def sessions_at_start(self) -> list[SessionRecord]:
        """Return the sessions to take up before this service answers calls, oldest first."""

    def rounds(self) -> AsyncIterator[list[SessionRecord]]:
        """Yield, for as long as the service runs, the sessions that this replica has newly taken.

        One list a round, which may be empty. Without replicas there are no rounds.
        """

    async def find(self, session_id: str, owner: str) -> SessionRecord | None:
        """Take a session that is not held here, if it is free; return None if there is no live one.

        Raises:
            SessionElsewhere: another replica holds it.
            SessionMoving: it is being taken, or no replica can reach it at the moment.
        """

    async def require_here(self, session_id: str, owner: str) -> None:
        """Raise `SessionElsewhere` if another replica holds the owner's session."""

    async def open_sessions(self, owner: str) -> list[OpenSessionRecord]:
        """Return the owner's open sessions of all replicas, from the registry; empty without replicas."""

    async def count_sessions(self, owner: str) -> int:
        """Return the number of the owner's open sessions on all replicas; 0 without replicas."""

    async def add_session(self, session: SessionRecord, limit: int) -> bool:
        """Add the row of a new session; return False if its owner has `limit` open ones (0: no limit).

        Raises:
            SessionMoving: other replicas have taken this one for dead.
        """
