"""The request that is being served, and its execution: for logs, response headers and traces.

The ingress makes a context for each request. Every task that the request starts inherits it.
"""

import re
import uuid
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

REQUEST_ID_HEADER: Final = b"x-request-id"

# Characters that need no quotes in a header, a log line or a shell.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


@dataclass(slots=True)
class RequestContext:
    """The ids of a request that are known so far."""

    request_id: str
    execution_id: str | None = None
    """Id of the execution that the request started; None if there is none."""
    trace_id: str | None = None
    """Trace id, 32 hexadecimal digits; None if the request is not traced."""
    span: Any = None
    """Span of the request, the parent of other spans. Only `service.telemetry.otlp` uses it."""


REQUEST_CONTEXT: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


def current() -> RequestContext | None:
    """Return the context of the current request; None outside a request."""
    return REQUEST_CONTEXT.get()


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the `X-Request-ID` of the caller if it is valid and sent once, or else a new id."""
    given = [value for name, value in headers if name == REQUEST_ID_HEADER]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0].decode("ascii")
    return uuid.uuid4().hex
