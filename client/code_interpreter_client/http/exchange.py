"""From a request to its answer without any I/O: what to send, how long to wait, and which error to raise.

A call is a *flow*: a generator that yields requests and receives responses. `steps` turns a flow into the
steps that a client performs one after the other: `Request`s to send and `Pause`s to make. Both clients, the
blocking and the asynchronous one, are loops around it.
"""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from code_interpreter_client.errors import (
    BadAnswer,
    CodeInterpreterError,
    ConnectionFailed,
    ConnectionLost,
    Refused,
    Unreachable,
    refusal_type,
)
from code_interpreter_client.http import wire
from code_interpreter_client.http.retry import Retry, retry_after
from code_interpreter_client.http.sources import Source

T = TypeVar("T")
Progress = Callable[[int, int | None], None]
"""Called with the number of bytes received so far and the total, which is None if it is unknown."""


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        path: relative to the service's address.
        repeatable: whether sending it twice has the same effect as sending it once.
        seconds: how much longer than usual the service may take to answer.
        into: the file that the answer's body is written to.
        progress: called while the body is written to `into`.
        stream: whether the answer's body is left unread, for the caller to read.
    """

    method: str
    path: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    json: Any = None
    form_file: Source | None = None
    body: Source | None = None
    repeatable: bool = False
    seconds: float = 0.0
    into: Path | None = None
    progress: Progress | None = None
    stream: bool = False

    @property
    def source(self) -> Source | None:
        """The file that it sends, if any."""
        return self.form_file or self.body


@dataclass(frozen=True)
class Pause:
    """A step of an exchange: wait `seconds` before the next request."""

    seconds: float


Outcome = httpx.Response | httpx.RequestError | None
Flow = Generator[Request, httpx.Response, T]
Steps = Generator[Request | Pause, Outcome, T]

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


def steps(flow: Flow[T], url: str, retry: Retry) -> Steps[T]:
    """Yield the steps of a flow, and return the flow's value.

    The client sends back the response or the error of each `Request`, and None after each `Pause`.
    """
    try:
        request = next(flow)
        while True:
            try:
                response = yield from _attempts(request, url, retry)
            except CodeInterpreterError as error:
                request = flow.throw(error)
            else:
                request = flow.send(response)
    except StopIteration as end:
        value: T = end.value
        return value


def _attempts(request: Request, url: str, retry: Retry) -> Steps[httpx.Response]:
    """Send a request until it succeeds or may not be sent again. Raises the error of the last attempt."""
    waited = 0.0
    attempt = 1
    is_in_doubt = False
    while True:
        outcome = yield request
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return outcome
        error = _refusal(outcome) if isinstance(outcome, httpx.Response) else connection_error(outcome, url)
        if is_in_doubt and request.method == "DELETE" and getattr(error, "status", 0) in (404, 410):
            # An earlier attempt deleted it, but its answer was lost.
            assert isinstance(outcome, httpx.Response)
            return outcome
        is_in_doubt = is_in_doubt or isinstance(error, ConnectionLost)
        pause = None if not may_repeat(request, error) else retry.pause(attempt, waited, _hint(error))
        if pause is None:
            raise error
        yield Pause(pause)
        waited += pause
        attempt += 1


def may_repeat(request: Request, error: CodeInterpreterError) -> bool:
    """Return whether the request can be sent again: it was not carried out, or is repeatable.

    The service answers 429, and 503 with `Retry-After`, before it does anything. After any other 5xx the
    request may have been carried out in part.
    """
    if request.source is not None and not request.source.repeatable:
        return False
    match error:
        case ConnectionFailed():
            return True
        case ConnectionLost():
            return request.repeatable
        case Refused(status=429):
            return True
        case Refused(status=503):
            return request.repeatable or error.retry_after is not None
        case Refused(status=502 | 504):
            return request.repeatable
    return False


def _hint(error: CodeInterpreterError) -> float | None:
    return error.retry_after if isinstance(error, Refused) else None


def connection_error(error: httpx.RequestError | None, url: str) -> Unreachable:
    """Return the error to raise for a request that got no answer."""
    reason = str(error) or type(error).__name__
    return ConnectionFailed(url, reason) if isinstance(error, _NOT_SENT) else ConnectionLost(url, reason)


def _refusal(response: httpx.Response) -> Refused | BadAnswer:
    if response.has_redirect_location:
        # Redirects are not followed: the body and the key must not go to an address that a proxy names.
        location = response.headers["Location"]
        return BadAnswer(f"it redirects to {location}; use that address if it is the service's")
    try:
        body = response.json()
    except (ValueError, httpx.ResponseNotRead):
        body = None
    if not isinstance(body, dict):
        body = {}
    code = body.pop("code", "")
    code = code if isinstance(code, str) else ""
    without_detail = f"{response.status_code} {response.reason_phrase or 'without a reason'}"
    detail = _sentence(body.pop("detail", "")) or without_detail
    kind = refusal_type(response.status_code, code)
    return kind(response.status_code, code, detail, retry_after(response.headers), body)


def _sentence(detail: object) -> str:
    """Return an error's detail as text; for an invalid request, the problem of each field."""
    if not isinstance(detail, list):
        return str(detail)
    problems = []
    for item in detail:
        if isinstance(item, dict):
            place = ".".join(str(part) for part in item.get("loc", ()) if part != "body")
            problems.append(f"{place}: {item.get('msg', '')}" if place else str(item.get("msg", "")))
    return "; ".join(problems) or json.dumps(detail)


def answer(kind: type[T], request: Request) -> Flow[T]:
    """Make the flow of one request whose answer is a `kind`."""
    response = yield request
    return read_as(kind, response)


def read_as(kind: type[T], response: httpx.Response) -> T:
    """Return the answer as a `kind`. Raises `BadAnswer`."""
    return wire.read(kind, json_of(response))


def json_of(response: httpx.Response) -> Any:
    """Return the answer's JSON. Raises `BadAnswer` if it is not JSON."""
    try:
        return response.json()
    except ValueError as error:
        raise BadAnswer(f"{response.request.url} did not answer with JSON") from error
