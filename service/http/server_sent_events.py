"""The format of server-sent events: a kind, and data as JSON on one line."""

import json
from typing import Any, Final

EVENT_STREAM_TYPE: Final = "text/event-stream"
KEEP_ALIVE: Final = ": keep-alive\n\n"
"""A comment, which clients ignore. It keeps proxies from closing an idle connection."""


def format_event(kind: str, data: Any) -> str:
    """Return one event in ASCII, because some clients end a line at every Unicode line separator."""
    return f"event: {kind}\ndata: {json.dumps(data, allow_nan=False)}\n\n"


def format_error(message: str) -> str:
    """Return the event that ends a stream without a result."""
    return format_event("error", {"message": message})
