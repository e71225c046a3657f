"""Limits JSON bodies, because a whole body is held in memory while it is parsed.

The limit applies when a route reads the body, so an unknown path or method is still answered with 404 or 405.
The connection stays open: the server reads and drops the rest of a refused body, so that the client can read
the response.
"""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.errors import RequestTooLarge


class BodyLimit:
    """ASGI middleware: reading more than ``max_bytes`` of a body raises ``RequestTooLarge``.

    ``exempt`` matches the paths of routes that stream their bodies and limit them themselves.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, exempt: re.Pattern[str]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._exempt = exempt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._exempt.fullmatch(scope["path"]):
            receive = self._limited(receive, declared_length(scope))
        await self._app(scope, receive, send)

    def _limited(self, receive: Receive, declared: int) -> Receive:
        seen = 0

        async def receive_within_limit() -> Message:
            nonlocal seen
            if declared > self._max_bytes:
                raise RequestTooLarge(self._max_bytes)
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise RequestTooLarge(self._max_bytes)
            return message

        return receive_within_limit


def declared_length(scope: Scope) -> int:
    """Return the ``Content-Length`` of a request in bytes; 0 if it has none."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
