"""Which request, and which execution, the running code is about: for logs, answers and traces.

A request's middleware makes the trail; every task that the request starts inherits it.
"""

import re
import uuid
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

REQUEST_ID_HEADER: Final = b"x-request-id"

# What stands in a header, a log line and a shell without quotes.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


@dataclass(slots=True)
class RequestContext:
    """What is known of a request so far."""

    request_id: str
    execution_id: str | None = None
    """Of the code that it runs; None where it runs none."""
    trace_id: str | None = None
    """32 hexadecimal digits; None where nothing is traced."""
    span: Any = None
    """The request's span, for those that belong beneath it; only `service.telemetry.traces` looks into it."""


REQUEST_CONTEXT: ContextVar[RequestContext | None] = ContextVar("trail", default=None)


def current() -> RequestContext | None:
    """The trail of the request that this is done for; None for what the service does by itself."""
    return REQUEST_CONTEXT.get()


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's `X-Request-ID` if there is one that can be used anywhere, else a new one."""
    given = [value for name, value in headers if name == REQUEST_ID_HEADER]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0].decode("ascii")
    return uuid.uuid4().hex
