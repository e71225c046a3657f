"""The table that turns errors into HTTP responses: ``{"detail": …, "code": "snake_case"}``.

The table lists the errors of ``sessions`` and of the packages that this one imports. The Jupyter gateway has
further errors, and its own table for them.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from service.auth.errors import KeyInvalid, KeyMissing, TooManyRequests, TooManyWrongKeys
from service.database.errors import InvalidCursor
from service.files.errors import InvalidFilename
from service.http.errors import (
    ForeignOrigin,
    HostNotAllowed,
    OriginRefused,
    RangeNotSatisfiable,
    RequestTooLarge,
    TooManyLargeRequests,
)
from service.replicas.errors import ReplicaLost
from sessions.containers.errors import (
    AllKernelsBusy,
    EngineUnavailable,
    ImageNotFound,
    ImageUnfit,
    LaunchFailed,
    NoCapacity,
    RuntimeNotFound,
)
from sessions.errors import (
    CellNotFound,
    ExecutionNotFound,
    FileDamaged,
    FileNotFound,
    FileTooLarge,
    InputNotFound,
    InvalidPath,
    NoInputRequest,
    RegistryUnavailable,
    SessionBusy,
    SessionEnded,
    SessionMoving,
    SessionNotFound,
    StorageFailed,
    StorageFull,
    StorageQuotaExceeded,
    TimeoutTooLong,
    TooManyExecutions,
    TooManySessions,
    WorkspaceFileNotFound,
    WorkspaceFull,
)
from sessions.kernels.errors import SupervisorFailed

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def _no_headers(_: Any) -> dict[str, str]:
    return {}


def _retry_after(error: Exception) -> dict[str, str]:
    assert isinstance(error, NoCapacity | TooManyRequests | TooManyWrongKeys | SessionMoving)
    return {"Retry-After": str(math.ceil(error.retry_after_sec))}


def _ask_for_key(error: Exception) -> dict[str, str]:
    """Return the challenge of RFC 6750. It names an error only if the request had a key."""
    challenge = 'Bearer realm="code-interpreter"'
    if isinstance(error, KeyInvalid):
        challenge += ', error="invalid_token"'
    return {"WWW-Authenticate": challenge}


@dataclass(frozen=True)
class Answer:
    """The response to one type of error. ``detail``, ``headers`` and ``facts`` are functions of the error."""

    status: int
    code: str
    detail: Callable[[Any], str] = str
    headers: Callable[[Any], Mapping[str, str]] = _no_headers
    facts: Callable[[Any], Mapping[str, Any]] = _no_headers
    """Further fields of the body, besides ``detail`` and ``code``."""


def _end(error: SessionEnded) -> dict[str, Any]:
    return {"reason": error.reason, "ended_at": error.ended_at}


def _content_range(error: RangeNotSatisfiable) -> dict[str, str]:
    return {"Content-Range": f"bytes */{error.size_bytes}"}


INVALID_REQUEST = "invalid_request"

Answers = Mapping[type[Exception], Answer]

ANSWERS: Final[Answers] = {
    KeyMissing: Answer(401, "key_missing", headers=_ask_for_key),
    KeyInvalid: Answer(401, "key_invalid", headers=_ask_for_key),
    TooManyRequests: Answer(429, "too_many_requests", headers=_retry_after),
    TooManyWrongKeys: Answer(429, "too_many_wrong_keys", headers=_retry_after),
    FileNotFound: Answer(404, "file_not_found"),
    FileDamaged: Answer(409, "file_damaged"),
    InputNotFound: Answer(404, "file_not_found"),
    FileTooLarge: Answer(413, "file_too_large"),
    RequestTooLarge: Answer(413, "request_too_large", lambda error: error.detail),
    TooManyLargeRequests: Answer(
        429, "too_many_large_requests", lambda error: error.detail, lambda _: {"Retry-After": "1"}
    ),
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
    HostNotAllowed: Answer(403, "host_not_allowed"),
    ForeignOrigin: Answer(403, "foreign_origin"),
    OriginRefused: Answer(403, "origin_refused"),
    TooManyExecutions: Answer(429, "too_many_executions", headers=lambda _: {"Retry-After": "1"}),
    StorageFull: Answer(507, "storage_full"),
    StorageQuotaExceeded: Answer(507, "storage_quota_exceeded"),
    StorageFailed: Answer(503, "storage_unavailable"),
    WorkspaceFull: Answer(413, "workspace_full"),
    InvalidPath: Answer(422, "invalid_path"),
    AllKernelsBusy: Answer(429, "all_kernels_busy", headers=_retry_after),
    NoCapacity: Answer(503, "no_capacity", headers=_retry_after),
    EngineUnavailable: Answer(503, "engine_unavailable"),
    ImageNotFound: Answer(503, "image_not_found"),
    ImageUnfit: Answer(503, "image_unfit"),
    RuntimeNotFound: Answer(503, "runtime_not_found"),
    LaunchFailed: Answer(503, "launch_failed"),
    SupervisorFailed: Answer(503, "kernel_failed"),
}


class ErrorResponse(JSONResponse):
    """The response to an error. Its body is ASCII, so a lone surrogate in a message can be encoded."""

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


def install_error_handlers(app: FastAPI, answers: Answers) -> None:
    """Turn every error that leaves a route into a response with ``detail`` and ``code``.

    Args:
        app: the application that gets the error handlers.
        answers: the table of all errors, including those of the Jupyter gateway.
    """

    async def answer(_: Request, error: Exception) -> Response:
        return answer_to(error, answers)

    for error_type in answers:
        app.add_exception_handler(error_type, answer)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(ClientDisconnect, _answer_disconnected)
    app.add_exception_handler(Exception, _answer_internal)


def answer_for(error: Exception, answers: Answers = ANSWERS) -> Answer:
    """Return the table's entry for an error or for the nearest of its base classes.

    Raises:
        KeyError: the table has no entry for the error or a base class.
    """
    for error_type in type(error).__mro__:
        if error_type in answers:
            return answers[error_type]
    raise KeyError(type(error))


def answer_to(error: Exception, answers: Answers = ANSWERS) -> Response:
    """Return the response to an error. Raises ``KeyError`` as ``answer_for`` does."""
    answer = answer_for(error, answers)
    return ErrorResponse(
        answer.status, answer.code, answer.detail(error), answer.headers(error), answer.facts(error)
    )


async def _answer_invalid(_: Request, error: Exception) -> Response:
    """Respond with FastAPI's list of problems, without the input, which may be huge or secret."""
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
    """Return all methods of the requested path. Each route knows only its own method."""

    def is_there(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return ", ".join(method for method in _METHODS if is_there(method))


async def _answer_disconnected(_: Request, __: Exception) -> Response:
    """Return an empty response. It cannot be read, because the client has closed the connection."""
    return Response(status_code=400)


async def _answer_internal(_: Request, __: Exception) -> Response:
    """Respond without internal details. The server logs the traceback, so it is not logged here."""
    return ErrorResponse(500, "internal", "Internal error: see the log of the service.")


def _invalid(problems: list[dict[str, Any]]) -> Response:
    return ErrorResponse(422, INVALID_REQUEST, problems)


def _unreadable(cause: BaseException) -> dict[str, Any]:
    """Return the reason why a body could not be parsed. FastAPI itself does not report the reason."""
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
