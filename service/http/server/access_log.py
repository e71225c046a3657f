"""The access log: one line for each request, written after the response was sent.

Paths may contain names of files. So the log shows only the fixed segments of the API's paths, and ids.
"""

import logging
import re
from collections.abc import Iterable
from typing import Final

from starlette.types import Scope

from service.http.guard import key_name

log = logging.getLogger(__name__)

_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SEGMENTS: Final = 12

WEBSOCKET: Final = "WEBSOCKET"
"""The method of a WebSocket in the access log."""


class AccessLog:
    """Writes one line for each request: client, key name, method, path, status and duration."""

    def __init__(self, templates: Iterable[str]) -> None:
        """`templates` are the paths of all routes."""
        self._path_words = {word for template in templates for word in template.split("/") if "{" not in word}

    def note(self, scope: Scope, status: int, seconds: float) -> None:
        """Write the line of a request that has ended."""
        if not log.isEnabledFor(logging.INFO):
            return
        host, port = scope.get("client") or ("-", 0)
        key, method, path = key_name(scope), scope.get("method", WEBSOCKET), self.shown(scope["path"])
        milliseconds = round(1000 * seconds, 1)
        facts = {"key": key, "method": method, "path": path, "status": status, "duration_ms": milliseconds}
        line = '%s:%d %s "%s %s" %d %.1f ms'
        log.info(line, host, port, key, method, path, status, milliseconds, extra=facts)

    def shown(self, path: str) -> str:
        """Return a path with `*` in place of segments that are neither part of the API nor an id."""
        segments = path.split("/")
        known = [s if s in self._path_words or _ID.fullmatch(s) else "*" for s in segments[:_SEGMENTS]]
        return "/".join(known) + ("/*" if len(segments) > _SEGMENTS else "")
