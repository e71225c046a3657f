"""A line for each request, written when its answer has left: nobody waits for it.

Paths can carry names of files, so of a path there is what the API itself is made of, and ids.
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
"""The access log's word in place of a method."""


class AccessLog:
    """Writes one line for each request: client, key name, method, path, status and duration."""

    def __init__(self, templates: Iterable[str]) -> None:
        """`templates` are the paths of all routes."""
        self._words = {word for template in templates for word in template.split("/") if "{" not in word}

    def note(self, scope: Scope, status: int, seconds: float) -> None:
        """Write the line of a request that is over."""
        if not log.isEnabledFor(logging.INFO):
            return
        host, port = scope.get("client") or ("-", 0)
        key, method, path = key_name(scope), scope.get("method", WEBSOCKET), self.shown(scope["path"])
        milliseconds = round(1000 * seconds, 1)
        facts = {"key": key, "method": method, "path": path, "status": status, "duration_ms": milliseconds}
        line = '%s:%d %s "%s %s" %d %.1f ms'
        log.info(line, host, port, key, method, path, status, milliseconds, extra=facts)

    def shown(self, path: str) -> str:
        """A path with stars in place of what is neither a word of the API nor an id."""
        segments = path.split("/")
        known = [s if s in self._words or _ID.fullmatch(s) else "*" for s in segments[:_SEGMENTS]]
        return "/".join(known) + ("/*" if len(segments) > _SEGMENTS else "")
