"""Limits JSON bodies, because a whole body is held in memory while it is parsed.

The limit is applied where a route reads the body, so that an unknown path or method still gets
its own answer. Nothing is done to the connection: the server reads and drops the rest of a body
that nobody wants, and so the client gets to see the answer.
"""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.errors import RequestTooLarge


class BodyLimit:
    """ASGI middleware: reading more than ``max_bytes`` of a body raises ``RequestTooLarge``.

    ``exempt`` matches the paths of routes that stream their bodies and bound them themselves.
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
    """The ``Content-Length`` of a request in bytes; 0 if it has none."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
