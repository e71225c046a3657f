"""From a request to its answer, without doing any I/O: what is sent, what is waited for, what is an error.

A call is a *flow*: a generator that yields requests and is sent responses. `steps` turns it into what a
client has to do, one after the other: `Request`s to send and `Pause`s to make. Both clients, the blocking
and the asynchronous one, are loops around it.
"""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from code_interpreter_client import wire
from code_interpreter_client.errors import (
    BadAnswer,
    CodeInterpreterError,
    ConnectionFailed,
    ConnectionLost,
    Refused,
    Unreachable,
    refusal_type,
)
from code_interpreter_client.retry import Retry, retry_after
from code_interpreter_client.sources import Source

T = TypeVar("T")
Progress = Callable[[int, int | None], None]
"""Is told how many bytes have come so far, and of how many; None: that is not known."""


@dataclass(frozen=True)
class Request:
    """One request. `path` is relative to the service's address.

    `repeatable`: sending it twice does what sending it once does. `seconds`: how long the service may take
    beyond what is usual. With `into` the answer's body goes to that file, and `progress` is told; with
    `stream` it is left unread.
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
        """The file that it sends."""
        return self.form_file or self.body


@dataclass(frozen=True)
class Pause:
    """Wait for some seconds."""

    seconds: float


Outcome = httpx.Response | httpx.RequestError | None
Flow = Generator[Request, httpx.Response, T]
Steps = Generator[Request | Pause, Outcome, T]

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


def steps(flow: Flow[T], url: str, retry: Retry) -> Steps[T]:
    """What to do for a flow: send a request and tell what came of it, or pause. Returns the flow's value."""
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
    """Send a request as often as is safe and allowed. Raises what came of the last attempt."""
    waited = 0.0
    attempt = 1
    is_in_doubt = False
    while True:
        outcome = yield request
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return outcome
        error = _refusal(outcome) if isinstance(outcome, httpx.Response) else connection_error(outcome, url)
        if is_in_doubt and request.method == "DELETE" and getattr(error, "status", 0) in (404, 410):
            # The attempt whose answer was lost has done it.
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
    """Whether the request can be sent again, because it has not been carried out or does no harm twice.

    Refusals come before anything is done if they are a 429, or a 503 that says when to come again. Other
    5xx can be told of something that began: only what is repeatable in any case is sent again.
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
    """The error of a request that got no answer."""
    reason = str(error) or type(error).__name__
    return ConnectionFailed(url, reason) if isinstance(error, _NOT_SENT) else ConnectionLost(url, reason)


def _refusal(response: httpx.Response) -> Refused | BadAnswer:
    if response.has_redirect_location:
        # A body, and a key, are not for whom a proxy names.
        return BadAnswer(f"it leads to {response.headers['Location']}; is that the address?")
    try:
        body = response.json()
    except (ValueError, httpx.ResponseNotRead):
        body = None
    if not isinstance(body, dict):
        body = {}
    code = body.pop("code", "")
    code = code if isinstance(code, str) else ""
    without = f"{response.status_code} {response.reason_phrase or 'refused without a word'}"
    detail = _sentence(body.pop("detail", "")) or without
    kind = refusal_type(response.status_code, code)
    return kind(response.status_code, code, detail, retry_after(response.headers), body)


def _sentence(detail: object) -> str:
    """The detail as text; of an invalid request what is wrong with each field."""
    if not isinstance(detail, list):
        return str(detail)
    problems = []
    for item in detail:
        if isinstance(item, dict):
            place = ".".join(str(part) for part in item.get("loc", ()) if part != "body")
            problems.append(f"{place}: {item.get('msg', '')}" if place else str(item.get("msg", "")))
    return "; ".join(problems) or json.dumps(detail)


def answer(kind: type[T], request: Request) -> Flow[T]:
    """The flow of one request whose answer is a `kind`."""
    response = yield request
    return read_as(kind, response)


def read_as(kind: type[T], response: httpx.Response) -> T:
    """The answer as a `kind`. Raises `BadAnswer`."""
    return wire.read(kind, json_of(response))


def json_of(response: httpx.Response) -> Any:
    """The answer's JSON. Raises `BadAnswer`: it is none."""
    try:
        return response.json()
    except ValueError as error:
        raise BadAnswer(f"{response.request.url} gave no JSON") from error
