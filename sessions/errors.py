"""The roots of the domain's errors, and the errors of calls. `service.http` maps them to status codes.

SessionsError               something that runs code failed
├── InvalidPath             a workspace path is not allowed
├── WorkspaceFull           the inputs do not fit into the workspace
├── SecretUnreadable        the secrets of a container cannot be decrypted
├── (sessions.containers.errors: EngineUnavailable, ImageNotFound, LaunchFailed, AllKernelsBusy, …)
└── (sessions.kernels.errors: SupervisorFailed, KernelEnded)

CallFailed                  something that a caller asked for cannot be done
├── FileNotFound            no stored file has this id
├── FileDamaged             a stored file was changed in the storage
├── InputNotFound           an execution names an input file that does not exist
├── FileTooLarge            a file has too many bytes
├── TimeoutTooLong          timeout_ms is over the maximum
├── SessionNotFound         no session has ever had this id
├── SessionEnded            the session has ended
├── SessionBusy             the session runs other code
├── SessionMoving           the session has no replica at the moment
│   └── SessionElsewhere    another replica has the session
├── CellNotFound            the session has no cell of this id
├── ExecutionNotFound       the caller has no execution of this id
├── NoInputRequest          no code in the session waits for input
├── WorkspaceFileNotFound   the workspace has no such regular file
├── TooManySessions         too many sessions are open
├── TooManyExecutions       too many executions of the key run or wait
├── StorageQuotaExceeded    the key's files would take too many bytes
├── ServiceFault            the disk or the database failed
│   ├── StorageFull         the disk is full
│   ├── StorageFailed       the disk does not work
│   └── RegistryUnavailable the database does not answer
└── (service.*.errors: KeyMissing, InvalidCursor, ReplicaLost, …)
"""

from typing import Final


class SessionsError(Exception):
    """Root of the errors of what runs code: engines, containers, supervisors, kernels."""

    @property
    def log_text(self) -> str:
        """The text for a log: without anything that a caller or user code wrote."""
        return str(self)


class InvalidPath(SessionsError):
    """A workspace path is not allowed; `reason` says why."""

    def __init__(self, path: str, reason: str) -> None:
        shown = path if len(path) <= 80 else path[:77] + "..."
        super().__init__(f"path {shown!r} {reason}")
        self.path = path
        self.reason = reason

    @property
    def log_text(self) -> str:
        return type(self).__name__


class WorkspaceFull(SessionsError):
    """The inputs do not fit into the workspace."""

    def __init__(self) -> None:
        super().__init__("the files do not fit into the workspace (WORKSPACE_SIZE_MB)")


class SecretUnreadable(SessionsError):
    """The secrets of a container were encrypted with another key, or the row was changed."""

    def __init__(self) -> None:
        super().__init__(
            "the secrets of its container cannot be decrypted: REGISTRY_KEY, or the key file, is not the one "
            "from before, or the row was changed"
        )


class CallFailed(Exception):
    """Something that a caller asked for cannot be done. The text is for the caller, and may quote it."""

    @property
    def log_text(self) -> str:
        """The text for a log: without anything that a caller wrote."""
        return type(self).__name__


CONTAINER_UNHARMED: Final = (CallFailed, InvalidPath, WorkspaceFull)
"""Errors that end a call before its code begins, and that are no fault of its container."""


class ServiceFault(CallFailed):
    """A call failed because of the disk or the database. The text quotes no caller."""

    @property
    def log_text(self) -> str:
        return str(self)


def log_text(error: BaseException) -> str:
    """Return the text of an error for a log: without anything that a caller or user code wrote."""
    return error.log_text if isinstance(error, SessionsError | CallFailed) else type(error).__name__


class FileNotFound(CallFailed):
    """No file has this id: it never existed, was deleted or has expired."""

    def __init__(self, file_id: str) -> None:
        super().__init__(f"File with ID '{file_id}' not found")
        self.file_id = file_id


class FileDamaged(CallFailed):
    """A stored file was changed, cut or replaced in the storage after it was stored."""

    def __init__(self, file_id: str) -> None:
        super().__init__(
            f"File with ID '{file_id}' was changed in the storage after it was stored, so it is not served; "
            "store it again"
        )
        self.file_id = file_id


class InputNotFound(CallFailed):
    """An execution names an input file that does not exist."""

    def __init__(self, file_id: str, path: str) -> None:
        super().__init__(f"File with ID '{file_id}' not found for path '{path}'.")
        self.file_id = file_id
        self.path = path


class FileTooLarge(CallFailed):
    """A file has more than ``limit_bytes`` bytes."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"File size exceeds maximum of {limit_bytes / (1024 * 1024):g} MB")
        self.limit_bytes = limit_bytes


class TimeoutTooLong(CallFailed):
    """A caller's ``timeout_ms`` is over ``limit_ms``, in milliseconds."""

    def __init__(self, limit_ms: int) -> None:
        super().__init__(f"timeout_ms exceeds maximum of {limit_ms} ms")
        self.limit_ms = limit_ms


class SessionNotFound(CallFailed):
    """No session has ever had this id."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session '{session_id}' not found")
        self.session_id = session_id


class SessionEnded(CallFailed):
    """The session has ended, at ``ended_at`` (seconds since the epoch)."""

    def __init__(self, session_id: str, reason: str, ended_at: float) -> None:
        super().__init__(f"Session '{session_id}' has ended: {reason}")
        self.session_id = session_id
        self.reason = reason
        self.ended_at = ended_at


class SessionBusy(CallFailed):
    """The session runs other code, and the call did not get the session lock in time."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session '{session_id}' is busy; try again when its running code has ended")
        self.session_id = session_id


class SessionMoving(CallFailed):
    """The session's replica is gone or does not answer, and no other replica has taken over yet."""

    retry_after_sec = 2

    def __init__(self, session_id: str | None = None) -> None:
        which = "The session" if session_id is None else f"Session '{session_id}'"
        super().__init__(f"{which} is moving to another replica of the service; try again soon")
        self.session_id = session_id


class SessionElsewhere(SessionMoving):
    """Another replica has the session: forward the call to ``url``."""

    def __init__(self, session_id: str, url: str) -> None:
        super().__init__(session_id)
        self.url = url


class CellNotFound(CallFailed):
    """The session has no cell of this id."""

    def __init__(self, cell_id: str) -> None:
        super().__init__(f"Cell '{cell_id}' not found")
        self.cell_id = cell_id


class ExecutionNotFound(CallFailed):
    """The caller has no execution of this id."""

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"Execution with ID '{execution_id}' not found")
        self.execution_id = execution_id


class NoInputRequest(CallFailed):
    """No code in the session waits for input."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session '{session_id}' does not ask for input now")
        self.session_id = session_id


class WorkspaceFileNotFound(CallFailed):
    """The session's workspace has no such regular file."""

    def __init__(self, path: str) -> None:
        super().__init__(f"The session has no file {path!r}")
        self.path = path


class TooManySessions(CallFailed):
    """``limit`` sessions are open, as many as ``setting`` allows (for the service, or for one key)."""

    def __init__(self, limit: int, setting: str = "MAX_SESSIONS") -> None:
        super().__init__(f"{setting}={limit} sessions are open; delete one or try again later")
        self.limit = limit
        self.setting = setting


class TooManyExecutions(CallFailed):
    """``limit`` executions of the key run or wait: as many as are allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"KEY_MAX_EXECUTIONS={limit} executions of this key run; try again after one")
        self.limit = limit


class StorageQuotaExceeded(CallFailed):
    """The files of a key would have more than ``limit_bytes`` bytes in total."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The files of this key would exceed KEY_STORAGE_MB={limit_bytes // (1024 * 1024)}; delete some"
        )
        self.limit_bytes = limit_bytes


class StorageFull(ServiceFault):
    """The disk of the stored files or of the registry is full; ``reason`` is the system's text."""

    def __init__(self, reason: str) -> None:
        super().__init__("The service has no space left to store files")
        self.reason = reason


class StorageFailed(ServiceFault):
    """Reading or writing stored files failed; ``reason`` is the system's text."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The service cannot store or read files: {reason}")
        self.reason = reason


class RegistryUnavailable(ServiceFault):
    """The registry's database does not answer, or failed; ``reason`` is written for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__("The service's registry does not answer")
        self.reason = reason
