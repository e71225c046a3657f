"""The error responses in the OpenAPI document: the error codes of each route."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi.exceptions import RequestValidationError

from service.http.answers import ANSWERS, INVALID_REQUEST, Answers
from service.http.errors import RequestTooLarge, TooManyLargeRequests
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
    FileDamaged,
    InputNotFound,
    InvalidPath,
    RegistryUnavailable,
    SessionBusy,
    SessionEnded,
    SessionMoving,
    SessionNotFound,
    StorageFailed,
    StorageFull,
    TimeoutTooLong,
    TooManyExecutions,
    WorkspaceFull,
)
from sessions.kernels.errors import SupervisorFailed

_ALWAYS: Final = (RequestValidationError, RegistryUnavailable, StorageFailed, StorageFull)
"""Errors of every route: the request is invalid, the registry or the disk fails, or the disk is full."""

KERNEL: Final = (
    AllKernelsBusy,
    NoCapacity,
    EngineUnavailable,
    ImageNotFound,
    ImageUnfit,
    RuntimeNotFound,
    LaunchFailed,
    SupervisorFailed,
)
"""Errors of routes that need a new kernel."""

BODY: Final = (RequestTooLarge, TooManyLargeRequests)
"""Errors of routes that read a JSON body."""

CODE: Final = (
    *BODY,
    TimeoutTooLong,
    InputNotFound,
    FileDamaged,
    InvalidPath,
    WorkspaceFull,
    TooManyExecutions,
)
"""Errors of routes that take code and its inputs."""

SESSION: Final = (SessionNotFound, SessionEnded, SessionMoving, ReplicaLost)
"""Errors of routes that need an open session."""

TURN: Final = (*SESSION, SessionBusy, EngineUnavailable, LaunchFailed, SupervisorFailed)
"""Errors of routes that wait for the session lock. The kernel of the session may have to be replaced."""


def refusals(*errors: type[Exception], answers: Answers = ANSWERS) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route with these errors, including the errors of every route."""
    codes: defaultdict[int, set[str]] = defaultdict(set)
    for error in (*errors, *_ALWAYS):
        status, code = _status_and_code(error, answers)
        codes[status].add(code)
    return {status: _response(status, found) for status, found in codes.items()}


def add(responses: dict[str, Any], *errors: type[Exception]) -> None:
    """Add errors to the responses of one route in a finished document."""
    for error in errors:
        status, code = _status_and_code(error, ANSWERS)
        present = responses.get(str(status))
        codes = {code} if present is None else {code, *_codes(present)}
        responses[str(status)] = _response(status, codes)


def _status_and_code(error: type[Exception], answers: Answers) -> tuple[int, str]:
    if error is RequestValidationError:
        return 422, INVALID_REQUEST
    answer = answers[error]
    return answer.status, answer.code


def _response(status: int, codes: Iterable[str]) -> dict[str, Any]:
    """Return the description of an error response. Its text and its schema list the possible codes."""
    names = sorted(codes)
    body = "SessionEndedBody" if status == 410 else "ErrorBody"
    schema = {
        "allOf": [
            {"$ref": f"#/components/schemas/{body}"},
            {"type": "object", "properties": {"code": {"enum": names}}},
        ]
    }
    return {
        "description": ", ".join(f"`{name}`" for name in names),
        "content": {"application/json": {"schema": schema}},
    }


def _codes(response: Mapping[str, Any]) -> list[str]:
    schema = response["content"]["application/json"]["schema"]
    codes: list[str] = schema["allOf"][1]["properties"]["code"]["enum"]
    return codes
