"""What can go wrong, as types.

    CodeInterpreterError
     ├─ Unreachable                   no answer came
     │   ├─ ConnectionFailed          nothing was sent: nothing has happened
     │   └─ ConnectionLost            it was sent; whether it was done is not known
     ├─ BadAnswer                     an answer that is not as agreed: is a code interpreter there?
     ├─ Refused                       the service says no: `status`, `code`, `detail`, `retry_after`
     │   ├─ Unauthorized              key_missing, key_invalid
     │   ├─ NotFound                  not_found
     │   │   ├─ FileNotFound          file_not_found, workspace_file_not_found
     │   │   ├─ SessionNotFound       session_not_found
     │   │   └─ CellNotFound          cell_not_found
     │   ├─ SessionEnded              session_ended, with `reason` and `ended_at`
     │   ├─ SessionBusy               session_busy
     │   ├─ NoInputRequest            no_input_request
     │   ├─ TooLarge                  file_too_large, request_too_large, workspace_full
     │   ├─ InvalidRequest            invalid_request, invalid_path, invalid_filename, and other 4xx
     │   ├─ TooMany                   too_many_requests, too_many_executions, too_many_sessions
     │   ├─ StorageFull               storage_full, storage_quota_exceeded
     │   └─ Unavailable               no_capacity, engine_unavailable, kernel_failed, and other 5xx
     ├─ ExecutionLost                 the service lost the execution after its stream had begun
     └─ CodeFailed                    `Result.check`: the code did not end well; has the `result`

Each carries its facts; its text is a sentence for people.
"""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from code_interpreter_client.models import Result


class CodeInterpreterError(Exception):
    """Root of what this package raises."""


class Unreachable(CodeInterpreterError):
    """No answer came from `url`."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"No code interpreter answers at {url}: {reason}")
        self.url = url
        self.reason = reason


class ConnectionFailed(Unreachable):
    """There was no connection: nothing was sent, and nothing has happened."""


class ConnectionLost(Unreachable):
    """The connection broke, or no answer came in time: the request may have been carried out."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, f"the connection was lost ({reason})")


class BadAnswer(CodeInterpreterError):
    """An answer that is not as agreed."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"What answers is no code interpreter, or one of another version: {reason}")
        self.reason = reason


class Refused(CodeInterpreterError):
    """The service answers with 400 or above.

    `code` is the kind of error, for programs; `detail` says what is wrong; `retry_after` is the number of
    seconds after which the service asks to try again, if it does.
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
        """What else the answer's body says."""


class Unauthorized(Refused):
    """An API key is needed, or the one that was sent is not valid."""


class NotFound(Refused):
    """There is no such thing, or it is someone else's."""


class FileNotFound(NotFound):
    """There is no such file: it never existed, was deleted or has expired."""


class SessionNotFound(NotFound):
    """There never was such a session."""


class CellNotFound(NotFound):
    """The session has no such cell."""


class SessionEnded(Refused):
    """The session is no more."""

    @property
    def reason(self) -> str:
        """`expired`, `idle`, `deleted` or `lost`."""
        return str(self.facts.get("reason", ""))

    @property
    def ended_at(self) -> float | None:
        """When it ended, in seconds since the epoch."""
        value = self.facts.get("ended_at")
        return float(value) if isinstance(value, int | float) else None


class SessionBusy(Refused):
    """The session runs other code; nothing was done."""


class NoInputRequest(Refused):
    """Nothing in the session asks for input."""


class TooLarge(Refused):
    """A file, a request or all files together are over a limit."""


class InvalidRequest(Refused):
    """The request makes no sense."""


class TooMany(Refused):
    """A limit of the key or of the service is reached; `retry_after` says when to try again."""


class StorageFull(Refused):
    """The service's disk, or the key's share of it, is full."""


class Unavailable(Refused):
    """The service cannot do it now."""


class ExecutionLost(CodeInterpreterError):
    """The service lost the execution after its stream had begun; there is no result."""


class CodeFailed(CodeInterpreterError):
    """The code did not end well."""

    def __init__(self, result: "Result") -> None:
        super().__init__(result.failure or "the code failed")
        self.result = result


BY_CODE: Final[dict[str, type[Refused]]] = {
    "key_missing": Unauthorized,
    "key_invalid": Unauthorized,
    "unauthorized": Unauthorized,
    "forbidden": Unauthorized,
    "not_found": NotFound,
    "file_not_found": FileNotFound,
    "workspace_file_not_found": FileNotFound,
    "session_not_found": SessionNotFound,
    "cell_not_found": CellNotFound,
    "execution_not_found": NotFound,
    "kernelspec_not_found": NotFound,
    "foreign_origin": Unauthorized,
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
    "too_many_executions": TooMany,
    "too_many_sessions": TooMany,
    "too_many_connections": TooMany,
    "storage_full": StorageFull,
    "storage_quota_exceeded": StorageFull,
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
"""The service's stable codes."""

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
    """The type for a code; for one that is not known here, or a proxy's answer without any, by the status."""
    by_status = _BY_STATUS.get(status, Unavailable if status >= 500 else InvalidRequest)
    return BY_CODE.get(code, by_status)
