"""What a caller asked for cannot be done: the errors that ``service.answers`` turns into HTTP answers.

    Exception
     ├─ ServiceError                  something a caller asked for cannot be done
     │   ├─ FileNotFound(file_id)
     │   ├─ InputNotFound(file_id, path)
     │   ├─ FileTooLarge(limit_bytes)
     │   ├─ InvalidFilename(reason)
     │   ├─ InvalidCursor(cursor)
     │   ├─ RangeNotSatisfiable(size_bytes)
     │   ├─ TimeoutTooLong(limit_ms)
     │   ├─ SessionNotFound(session_id)
     │   ├─ SessionEnded(session_id, reason, ended_at)
     │   ├─ SessionBusy(session_id)
     │   ├─ SessionMoving(session_id)
     │   │   └─ SessionElsewhere(session_id, url)
     │   ├─ ReplicaLost(session_id)
     │   ├─ CellNotFound(cell_id)
     │   ├─ ExecutionNotFound(execution_id)
     │   ├─ NoInputRequest(session_id)
     │   ├─ WorkspaceFileNotFound(path)
     │   ├─ TooManySessions(limit, setting)
     │   ├─ TooManyExecutions(limit)
     │   ├─ TooManyConnections(limit)
     │   ├─ KernelSpecNotFound(name)
     │   ├─ ForeignOrigin()
     │   ├─ TooManyRequests(per_minute, retry_after_sec)
     │   ├─ KeyMissing()
     │   ├─ KeyInvalid()
     │   ├─ StorageQuotaExceeded(limit_bytes)
     │   ├─ StorageFull(reason)
     │   ├─ StorageFailed(reason)
     │   └─ RegistryUnavailable(reason)
     └─ HTTPException (Starlette's)
         └─ RequestTooLarge(limit_bytes)

Errors carry facts and say them when turned into text; status codes are known only to the table there.
"""

from starlette.exceptions import HTTPException

from sessions.errors import InvalidPath, SupervisorFailed, WorkspaceFull


class ServiceError(Exception):
    """Something a caller asked for cannot be done. The text is for the caller."""


class FileNotFound(ServiceError):
    """No file has this id: it never existed, was deleted or has expired."""

    def __init__(self, file_id: str) -> None:
        super().__init__(f"File with ID '{file_id}' not found")
        self.file_id = file_id


class InputNotFound(ServiceError):
    """An execution names an input file that does not exist."""

    def __init__(self, file_id: str, path: str) -> None:
        super().__init__(f"File with ID '{file_id}' not found for path '{path}'.")
        self.file_id = file_id
        self.path = path


class FileTooLarge(ServiceError):
    """A file has more than ``limit_bytes`` bytes."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"File size exceeds maximum of {limit_bytes / (1024 * 1024):g} MB")
        self.limit_bytes = limit_bytes


class InvalidFilename(ServiceError):
    """A name that no file should have."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The filename {reason}")
        self.reason = reason


class InvalidCursor(ServiceError):
    """``after`` is not a cursor that an earlier page gave."""

    def __init__(self, cursor: str) -> None:
        super().__init__("'after' is not a cursor of this list")
        self.cursor = cursor


class RangeNotSatisfiable(ServiceError):
    """A ``Range`` begins behind the end of a file of ``size_bytes`` bytes."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The range is outside the file, which has {size_bytes} bytes")
        self.size_bytes = size_bytes


class TimeoutTooLong(ServiceError):
    """A caller's ``timeout_ms`` is over ``limit_ms``, in milliseconds."""

    def __init__(self, limit_ms: int) -> None:
        super().__init__(f"timeout_ms exceeds maximum of {limit_ms} ms")
        self.limit_ms = limit_ms


class SessionNotFound(ServiceError):
    """No session has ever had this id."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session '{session_id}' not found")
        self.session_id = session_id


class SessionEnded(ServiceError):
    """The session has ended, at ``ended_at`` (seconds since the epoch)."""

    def __init__(self, session_id: str, reason: str, ended_at: float) -> None:
        super().__init__(f"Session '{session_id}' has ended: {reason}")
        self.session_id = session_id
        self.reason = reason
        self.ended_at = ended_at


class SessionBusy(ServiceError):
    """The session runs other code, and this did not get its turn in time."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session '{session_id}' is busy; try again when its running code has ended")
        self.session_id = session_id


class SessionMoving(ServiceError):
    """The replica that had the session is gone or does not answer, and no other has it yet."""

    retry_after_sec = 2

    def __init__(self, session_id: str | None = None) -> None:
        which = "The session" if session_id is None else f"Session '{session_id}'"
        super().__init__(f"{which} is moving to another replica of the service; try again soon")
        self.session_id = session_id


class SessionElsewhere(SessionMoving):
    """Another replica has the session, which is reached at ``url``: the call is to be passed on to it."""

    def __init__(self, session_id: str, url: str) -> None:
        super().__init__(session_id)
        self.url = url


class ReplicaLost(ServiceError):
    """The replica that has the session died, or stood still, after a call was passed on to it."""

    def __init__(self, session_id: str | None = None) -> None:
        super().__init__(
            "The replica that has the session was lost during the call: another takes the session over soon, "
            "and its cells tell whether the code has run"
        )
        self.session_id = session_id


class CellNotFound(ServiceError):
    """The session has no cell of this id."""

    def __init__(self, cell_id: str) -> None:
        super().__init__(f"Cell '{cell_id}' not found")
        self.cell_id = cell_id


class ExecutionNotFound(ServiceError):
    """No execution of the caller's has this id."""

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"Execution with ID '{execution_id}' not found")
        self.execution_id = execution_id


class NoInputRequest(ServiceError):
    """Nothing in the session asks for input."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session '{session_id}' does not ask for input now")
        self.session_id = session_id


class WorkspaceFileNotFound(ServiceError):
    """The session's workspace has no such regular file."""

    def __init__(self, path: str) -> None:
        super().__init__(f"The session has no file {path!r}")
        self.path = path


class TooManySessions(ServiceError):
    """``limit`` sessions are open, which ``setting`` allows: in all, or for one key."""

    def __init__(self, limit: int, setting: str = "MAX_SESSIONS") -> None:
        super().__init__(f"{setting}={limit} sessions are open; delete one or try again later")
        self.limit = limit
        self.setting = setting


class TooManyConnections(ServiceError):
    """``limit`` sockets are open to a session."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} sockets are open to this kernel; close one")
        self.limit = limit


class KernelSpecNotFound(ServiceError):
    """A notebook asks for a kernel of a name that there is not."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no kernelspec '{name}'")
        self.name = name


class ForeignOrigin(ServiceError):
    """A browser asks for a page of another server, which must not use a kernel."""

    def __init__(self) -> None:
        super().__init__("Pages of other servers may not use kernels: the Origin is not this service's")


class TooManyExecutions(ServiceError):
    """``limit`` executions of the key run or wait."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"KEY_MAX_EXECUTIONS={limit} executions of this key run; try again after one")
        self.limit = limit


class TooManyRequests(ServiceError):
    """The key has asked too often; it may ask again after ``retry_after_sec`` seconds."""

    def __init__(self, per_minute: int, retry_after_sec: float) -> None:
        super().__init__(f"This key may send KEY_REQUESTS_PER_MINUTE={per_minute} requests a minute")
        self.per_minute = per_minute
        self.retry_after_sec = retry_after_sec


class KeyMissing(ServiceError):
    """A request without an API key, where one is needed."""

    def __init__(self) -> None:
        super().__init__("An API key is needed: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")


class KeyInvalid(ServiceError):
    """A request with a key that is not valid, or with two that differ."""

    def __init__(self) -> None:
        super().__init__("The API key is not valid")


class StorageQuotaExceeded(ServiceError):
    """A key's files would have more than ``limit_bytes`` bytes together."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The files of this key would exceed KEY_STORAGE_MB={limit_bytes // (1024 * 1024)}; delete some"
        )
        self.limit_bytes = limit_bytes


class StorageFull(ServiceError):
    """The disk under the files or the registry takes no more bytes."""

    def __init__(self, reason: str) -> None:
        super().__init__("The service has no space left to store files")
        self.reason = reason


class StorageFailed(ServiceError):
    """The disk under the files does not do what it is asked; ``reason`` is the system's."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The service cannot store or read files: {reason}")
        self.reason = reason


class RegistryUnavailable(ServiceError):
    """The registry's database does not do what it is asked; ``reason`` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__("The service's registry does not answer")
        self.reason = reason


class RequestTooLarge(HTTPException):
    """The body of a request has more than ``limit_bytes`` bytes.

    It is an HTTPException because FastAPI turns any other error that comes up while it reads a
    body into its own 400.
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(413, f"Request body exceeds maximum of {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


def of_workspace_file(error: SupervisorFailed, path: str) -> Exception:
    """What a caller did wrong with a file of a session, if that is what the supervisor says."""
    match error.status:
        case 404:
            return WorkspaceFileNotFound(path)
        case 507:
            return WorkspaceFull()
        case int(status) if 400 <= status < 500:
            return InvalidPath(path, "can't be used: it is taken, or no regular file")
    return error
