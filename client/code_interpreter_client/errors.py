"""The errors of this package.

    CodeInterpreterError
     ├─ Unreachable                   no answer arrived
     │   ├─ ConnectionFailed          nothing was sent, so nothing happened
     │   └─ ConnectionLost            the request was sent; whether it was carried out is unknown
     ├─ BadAnswer                     an invalid answer: is a code interpreter at this address?
     ├─ Refused                       the service refuses: `status`, `code`, `detail`, `retry_after`
     │   ├─ Unauthorized              key_missing, key_invalid, host_not_allowed
     │   ├─ NotFound                  not_found
     │   │   ├─ FileNotFound          file_not_found, workspace_file_not_found
     │   │   ├─ SessionNotFound       session_not_found
     │   │   └─ CellNotFound          cell_not_found
     │   ├─ FileDamaged               file_damaged
     │   ├─ SessionEnded              session_ended, with `reason` and `ended_at`
     │   ├─ SessionBusy               session_busy
     │   ├─ NoInputRequest            no_input_request
     │   ├─ TooLarge                  file_too_large, request_too_large, workspace_full
     │   ├─ InvalidRequest            invalid_request, invalid_path, invalid_filename, and other 4xx
     │   ├─ TooMany                   too_many_requests, too_many_sessions, all_kernels_busy, …
     │   ├─ StorageFull               storage_full, storage_quota_exceeded
     │   └─ Unavailable               no_capacity, engine_unavailable, kernel_failed, and other 5xx
     ├─ ExecutionLost                 the service lost an execution after its stream had begun
     └─ CodeFailed                    `Result.check`: the code failed; has the `result`

Errors carry their facts as attributes, and their text is a sentence. `CodeFailed` is defined beside `Result`,
in `models.results`.
"""

from typing import Any, Final


class CodeInterpreterError(Exception):
    """Base class of the errors of this package."""


class Unreachable(CodeInterpreterError):
    """No answer arrived from `url`."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"No code interpreter answers at {url}: {reason}")
        self.url = url
        self.reason = reason


class ConnectionFailed(Unreachable):
    """No connection could be made. Nothing was sent, so nothing happened."""


class ConnectionLost(Unreachable):
    """The connection broke, or no answer came in time. The request may have been carried out."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, f"the connection was lost ({reason})")


class BadAnswer(CodeInterpreterError):
    """An answer is not valid."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The server is not a code interpreter, or is of another version: {reason}")
        self.reason = reason


class Refused(CodeInterpreterError):
    """The service answered with a status of 400 or above.

    Attributes:
        status: the HTTP status.
        code: the kind of error, for programs.
        detail: what is wrong, as a sentence.
        retry_after: the seconds after which the service asks to try again, or None.
        facts: the other fields of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        retry_after: float | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.facts = facts or {}


class Unauthorized(Refused):
    """The API key is missing or not valid."""


class NotFound(Refused):
    """The object does not exist, or belongs to another API key."""


class FileNotFound(NotFound):
    """The file does not exist: it never existed, was deleted, or has expired."""


class FileDamaged(Refused):
    """The stored file was changed in the service's storage. Store it again."""


class SessionNotFound(NotFound):
    """The session never existed."""


class CellNotFound(NotFound):
    """The session has no such cell."""


class SessionEnded(Refused):
    """The session has ended."""

    @property
    def reason(self) -> str:
        """`expired`, `idle`, `deleted` or `lost`."""
        return str(self.facts.get("reason", ""))

    @property
    def ended_at(self) -> float | None:
        """When the session ended, in seconds since the epoch."""
        value = self.facts.get("ended_at")
        return float(value) if isinstance(value, int | float) else None


class SessionBusy(Refused):
    """The session is running other code, so the service did nothing."""


class NoInputRequest(Refused):
    """No code in the session waits for input."""


class TooLarge(Refused):
    """A file, a request, or the workspace exceeds a limit."""


class InvalidRequest(Refused):
    """The request is not valid."""


class TooMany(Refused):
    """A limit of the API key or of the service is reached. Try again after `retry_after` seconds."""


class StorageFull(Refused):
    """The service's disk is full, or the API key's quota is used up."""


class Unavailable(Refused):
    """The service cannot carry out the request at the moment."""


class ExecutionLost(CodeInterpreterError):
    """The service lost an execution after its stream had begun. There is no result."""


BY_CODE: Final[dict[str, type[Refused]]] = {
    "key_missing": Unauthorized,
    "key_invalid": Unauthorized,
    "unauthorized": Unauthorized,
    "forbidden": Unauthorized,
    "not_found": NotFound,
    "file_damaged": FileDamaged,
    "file_not_found": FileNotFound,
    "workspace_file_not_found": FileNotFound,
    "session_not_found": SessionNotFound,
    "cell_not_found": CellNotFound,
    "execution_not_found": NotFound,
    "kernelspec_not_found": NotFound,
    "foreign_origin": Unauthorized,
    "origin_refused": Unauthorized,
    "host_not_allowed": Unauthorized,
    "session_ended": SessionEnded,
    "session_busy": SessionBusy,
    "no_input_request": NoInputRequest,
    "file_too_large": TooLarge,
    "request_too_large": TooLarge,
    "workspace_full": TooLarge,
    "invalid_request": InvalidRequest,
    "invalid_path": InvalidRequest,
    "invalid_filename": InvalidRequest,
    "invalid_cursor": InvalidRequest,
    "range_not_satisfiable": InvalidRequest,
    "too_many_requests": TooMany,
    "too_many_wrong_keys": TooMany,
    "too_many_executions": TooMany,
    "too_many_sessions": TooMany,
    "too_many_connections": TooMany,
    "storage_full": StorageFull,
    "storage_quota_exceeded": StorageFull,
    "too_many_large_requests": TooMany,
    "all_kernels_busy": TooMany,
    "no_capacity": Unavailable,
    "session_moving": Unavailable,
    "replica_lost": Unavailable,
    "engine_unavailable": Unavailable,
    "image_not_found": Unavailable,
    "image_unfit": Unavailable,
    "runtime_not_found": Unavailable,
    "launch_failed": Unavailable,
    "kernel_failed": Unavailable,
    "registry_unavailable": Unavailable,
    "storage_unavailable": Unavailable,
}
"""The error for each code of the service."""

_BY_STATUS: Final[dict[int, type[Refused]]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    410: SessionEnded,
    413: TooLarge,
    429: TooMany,
    507: StorageFull,
}


def refusal_type(status: int, code: str) -> type[Refused]:
    """Return the error for a code, or the one for the status if the code is unknown or empty."""
    by_status = _BY_STATUS.get(status, Unavailable if status >= 500 else InvalidRequest)
    return BY_CODE.get(code, by_status)
