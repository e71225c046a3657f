"""The service's own errors, and the one table that turns errors into HTTP answers.

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
     ├─ StartError                    the service cannot start; its text is for the operator
     │   ├─ SettingsInvalid(problems)
     │   ├─ KeyFileInvalid(path, reason)
     │   ├─ AddressUnavailable(host, port, reason)
     │   ├─ StorageUnavailable(folder, reason)
     │   ├─ StorageInUse(folder)
     │   ├─ RegistryInUse(place)
     │   ├─ InstanceInUse(instance_id)
     │   ├─ RegistryMissing(place)
     │   ├─ ObjectStorageMissing()
     │   ├─ ObjectStorageUnavailable(url, reason)
     │   ├─ ObjectStorageTaken(url)
     │   ├─ MigrationsMissing(folder)
     │   ├─ MigrationFailed(reason)
     │   ├─ RegistryTooNew(revision)
     │   ├─ OtlpMissing()
     │   ├─ OtlpUnusable(reason)
     │   ├─ CannotRunKernels(reason)
     │   ├─ BackupFailed(folder, reason)
     │   └─ SelfTestFailed(failures)
     └─ HTTPException (Starlette's)
         └─ RequestTooLarge(limit_bytes)

Errors carry facts and say them when turned into text. Status codes are known only to ``ANSWERS``.
Errors of other packages (``sessions.errors``) get a line there too. Every answer's body is
``{"detail": …, "code": "snake_case"}``.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from sessions.errors import (
    EngineUnavailable,
    ImageNotFound,
    ImageUnfit,
    InvalidPath,
    LaunchFailed,
    NoCapacity,
    RuntimeNotFound,
    SupervisorFailed,
    WorkspaceFull,
)
from sessions.walls import Check

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


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


class StartError(Exception):
    """The service cannot start. The text is one sentence, or one a line, for the operator."""


class SettingsInvalid(StartError):
    """Environment variables have values that cannot be used: a sentence for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class KeyFileInvalid(StartError):
    """The file of ``API_KEYS_FILE`` cannot be read or makes no sense; ``reason`` shows no key."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"API_KEYS_FILE={path} cannot be used: {reason}.")
        self.path = path
        self.reason = reason


class AddressUnavailable(StartError):
    """The server cannot listen on ``host`` and ``port``."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"Cannot listen on {host}, port {port}: {reason}. Set HOST and PORT to an address that is free."
        )
        self.host = host
        self.port = port
        self.reason = reason


class StorageUnavailable(StartError):
    """The folder of the files cannot be made or written."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"Cannot store files in {folder}: {reason}. Set FILE_STORAGE_DIR to a folder this user can write."
        )
        self.folder = folder
        self.reason = reason


class StorageInUse(StartError):
    """Another service works in this folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"Another service uses FILE_STORAGE_DIR={folder}; stop it, or give this one a folder of its own."
        )
        self.folder = folder


class RegistryInUse(StartError):
    """Another service works with this registry, and the two are not replicas."""

    def __init__(self, place: object) -> None:
        super().__init__(
            f"Another service uses the registry {place}; stop it, give this one a DATABASE_URL of its own, "
            "or set REPLICA_URL for both (PostgreSQL only)."
        )
        self.place = place


class InstanceInUse(StartError):
    """Another replica has this instance id, and would have its containers removed by this one."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(
            f"Another replica runs as INSTANCE_ID={instance_id}; stop it, or give this one a name of its own."
        )
        self.instance_id = instance_id


class RegistryMissing(StartError):
    """There are stored files, of which the registry knows nothing: it is not the one they are in."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"{place} has stored files, but their registry is missing or empty: put it back where "
            "DATABASE_URL says, or give the service an empty FILE_STORAGE_DIR or FILE_STORAGE_URL."
        )
        self.place = place


class ObjectStorageMissing(StartError):
    """Files are to be in an object storage, but the library for that is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "FILE_STORAGE_URL is set, but obstore is not installed: pip install 'code-interpreter[s3]'."
        )


class ObjectStorageUnavailable(StartError):
    """The object storage cannot be reached, or does not let the service write."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"Cannot store files in {url}: {reason}. See FILE_STORAGE_URL, AWS_ENDPOINT_URL and the other "
            "AWS_* variables."
        )
        self.url = url
        self.reason = reason


class ObjectStorageTaken(StartError):
    """The files there are another registry's, whose service would be robbed by this one's sweeps."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"The files in {url} are another registry's: set DATABASE_URL to that one, or give this service "
            "a FILE_STORAGE_URL of its own. If that registry is gone for good, remove the object `registry` "
            "there."
        )
        self.url = url


class MigrationsMissing(StartError):
    """The folder of the migrations is not where the code expects it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"The registry's migrations are not at {folder}: "
            "the service runs from its source folder (pip install -e .)."
        )
        self.folder = folder


class MigrationFailed(StartError):
    """The registry's database cannot be reached or brought up to date."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The registry cannot be opened: {reason}. DATABASE_URL says where it is.")
        self.reason = reason


class RegistryTooNew(StartError):
    """The registry has a schema ``revision`` that this version of the code does not know."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"The registry has schema revision {revision}, which this version of the service "
            "does not know: a newer one wrote it. Upgrade the service or use another DATABASE_URL."
        )
        self.revision = revision


class OtlpMissing(StartError):
    """Traces are to be sent, but OpenTelemetry is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: "
            "pip install 'code-interpreter[otlp]'."
        )


class OtlpUnusable(StartError):
    """One of OpenTelemetry's own variables makes no sense; the reason is the library's."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Traces cannot be sent as the OTEL_* variables say: {reason}")
        self.reason = reason


class CannotRunKernels(StartError):
    """There is no container engine, or none that will do; the reason says what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Cannot run kernels: {reason}.")
        self.reason = reason


class BackupFailed(StartError):
    """Registry and files cannot be copied; nothing is left in the folder."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"Cannot back up to {folder}: {reason}.")
        self.folder = folder
        self.reason = reason


class SelfTestFailed(StartError):
    """Code that runs in a kernel could do what it must not; ``failures`` are the checks that say so."""

    def __init__(self, failures: Sequence[Check]) -> None:
        lines = [f"- {check.name}: {check.detail}. Help: {check.advice}." for check in failures]
        super().__init__(
            "The self-test failed: the user's code would not be kept in, so none is run.\n" + "\n".join(lines)
        )
        self.failures = failures


class RequestTooLarge(HTTPException):
    """The body of a request has more than ``limit_bytes`` bytes.

    It is an HTTPException because FastAPI turns any other error that comes up while it reads a
    body into its own 400.
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(413, f"Request body exceeds maximum of {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


def _no_headers(_: Any) -> dict[str, str]:
    return {}


def _retry_after(error: Exception) -> dict[str, str]:
    assert isinstance(error, NoCapacity | TooManyRequests | SessionMoving)
    return {"Retry-After": str(math.ceil(error.retry_after_sec))}


def _ask_for_key(error: Exception) -> dict[str, str]:
    """As RFC 6750 has it: an error only where there was a key."""
    challenge = 'Bearer realm="code-interpreter"'
    if isinstance(error, KeyInvalid):
        challenge += ', error="invalid_token"'
    return {"WWW-Authenticate": challenge}


@dataclass(frozen=True)
class Answer:
    """How an error is told to the caller; ``detail`` and ``headers`` are made from the error."""

    status: int
    code: str
    detail: Callable[[Any], str] = str
    headers: Callable[[Any], Mapping[str, str]] = _no_headers
    facts: Callable[[Any], Mapping[str, Any]] = _no_headers
    """What the body says besides ``detail`` and ``code``."""


def _end(error: SessionEnded) -> dict[str, Any]:
    return {"reason": error.reason, "ended_at": error.ended_at}


def _content_range(error: RangeNotSatisfiable) -> dict[str, str]:
    return {"Content-Range": f"bytes */{error.size_bytes}"}


INVALID_REQUEST = "invalid_request"

ANSWERS: dict[type[Exception], Answer] = {
    KeyMissing: Answer(401, "key_missing", headers=_ask_for_key),
    KeyInvalid: Answer(401, "key_invalid", headers=_ask_for_key),
    TooManyRequests: Answer(429, "too_many_requests", headers=_retry_after),
    FileNotFound: Answer(404, "file_not_found"),
    InputNotFound: Answer(404, "file_not_found"),
    FileTooLarge: Answer(413, "file_too_large"),
    RequestTooLarge: Answer(413, "request_too_large", lambda error: error.detail),
    RangeNotSatisfiable: Answer(416, "range_not_satisfiable", headers=_content_range),
    InvalidFilename: Answer(422, "invalid_filename"),
    InvalidCursor: Answer(422, "invalid_cursor"),
    TimeoutTooLong: Answer(422, INVALID_REQUEST),
    RegistryUnavailable: Answer(503, "registry_unavailable"),
    SessionNotFound: Answer(404, "session_not_found"),
    SessionEnded: Answer(410, "session_ended", facts=_end),
    SessionBusy: Answer(409, "session_busy"),
    SessionMoving: Answer(503, "session_moving", headers=_retry_after),
    ReplicaLost: Answer(503, "replica_lost"),
    CellNotFound: Answer(404, "cell_not_found"),
    ExecutionNotFound: Answer(404, "execution_not_found"),
    NoInputRequest: Answer(409, "no_input_request"),
    WorkspaceFileNotFound: Answer(404, "workspace_file_not_found"),
    TooManySessions: Answer(429, "too_many_sessions", headers=lambda _: {"Retry-After": "10"}),
    KernelSpecNotFound: Answer(404, "kernelspec_not_found"),
    ForeignOrigin: Answer(403, "foreign_origin"),
    TooManyConnections: Answer(429, "too_many_connections", headers=lambda _: {"Retry-After": "10"}),
    TooManyExecutions: Answer(429, "too_many_executions", headers=lambda _: {"Retry-After": "1"}),
    StorageFull: Answer(507, "storage_full"),
    StorageQuotaExceeded: Answer(507, "storage_quota_exceeded"),
    StorageFailed: Answer(503, "storage_unavailable"),
    WorkspaceFull: Answer(413, "workspace_full"),
    InvalidPath: Answer(422, "invalid_path"),
    NoCapacity: Answer(503, "no_capacity", headers=_retry_after),
    EngineUnavailable: Answer(503, "engine_unavailable"),
    ImageNotFound: Answer(503, "image_not_found"),
    ImageUnfit: Answer(503, "image_unfit"),
    RuntimeNotFound: Answer(503, "runtime_not_found"),
    LaunchFailed: Answer(503, "launch_failed"),
    SupervisorFailed: Answer(503, "kernel_failed"),
}


class ErrorResponse(JSONResponse):
    """An error's body. Pure ASCII, so that a lone surrogate in a message cannot break it."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str | list[dict[str, Any]],
        headers: Mapping[str, str] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__({"detail": detail, "code": code, **(facts or {})}, status, headers)

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def install_error_handlers(app: FastAPI) -> None:
    """Make every error that leaves a route an answer with ``detail`` and ``code``."""
    for error_type in ANSWERS:
        app.add_exception_handler(error_type, _answer)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_internal)


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


def answer_for(error: Exception) -> Answer:
    """The line of ``ANSWERS`` for an error, its base classes' included. ``KeyError`` if none."""
    for error_type in type(error).__mro__:
        if error_type in ANSWERS:
            return ANSWERS[error_type]
    raise KeyError(type(error))


def answer_to(error: Exception) -> Response:
    """The response to an error that ``ANSWERS`` has. ``KeyError`` if it has none."""
    answer = answer_for(error)
    return ErrorResponse(
        answer.status, answer.code, answer.detail(error), answer.headers(error), answer.facts(error)
    )


async def _answer(_: Request, error: Exception) -> Response:
    return answer_to(error)


async def _answer_invalid(_: Request, error: Exception) -> Response:
    """Keep FastAPI's list, without the input: it may be huge, secret or impossible to encode."""
    assert isinstance(error, RequestValidationError)
    return _invalid([{key: item[key] for key in ("type", "loc", "msg")} for item in error.errors()])


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400 and error.__cause__ is not None:
        return _invalid([_unreadable(error.__cause__)])
    # "Method Not Allowed" becomes method_not_allowed.
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("-", "_")
    headers = {"Allow": _methods(request)} if error.status_code == 405 else error.headers
    return ErrorResponse(error.status_code, code, error.detail, headers)


def _methods(request: Request) -> str:
    """All methods of the path that was asked for: each route knows its own only."""

    def is_there(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return ", ".join(method for method in _METHODS if is_there(method))


async def _answer_nobody(_: Request, __: Exception) -> Response:
    """The caller has hung up: there is nobody to answer, and nothing for the log."""
    return Response(status_code=400)


async def _answer_internal(_: Request, __: Exception) -> Response:
    """Say nothing about the inside. The server logs the traceback, so it is not logged here."""
    return ErrorResponse(500, "internal", "Internal error: the service's log says more.")


def _invalid(problems: list[dict[str, Any]]) -> Response:
    return ErrorResponse(422, INVALID_REQUEST, problems)


def _unreadable(cause: BaseException) -> dict[str, Any]:
    """Say why a body could not be parsed where FastAPI only says that it could not."""
    match cause:
        case UnicodeDecodeError():
            message = "JSON must be valid UTF-8"
        case RecursionError():
            message = "JSON is nested too deeply"
        case ValueError():
            message = "JSON has a number that is too long"
        case _:
            message = "The body cannot be parsed"
    return {"type": "json_invalid", "loc": ["body"], "msg": message}
