"""Limits the bodies that are held in memory as a whole: those of all routes but the few that stream theirs.

The limits apply when a route reads the body, so an unknown path or method is still answered with 404 or 405.
The connection stays open: the server reads and drops the rest of a refused body, so that the client can read
the response.
"""

import re
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.errors import RequestTooLarge, TooManyLargeRequests
from service.http.guard import key_name

_MAX_VALUES: Final = 100_000
"""Most tokens of a JSON body: a megabyte of `[[],[],[]]` would become seventy megabytes of objects."""
_SMALL_BYTES: Final = 1 << 16
"""A body of this size is neither counted nor examined."""
_HELD_BODIES: Final = 4
"""Bodies of full size that may be held at the same time, for all owners together. One owner may hold half."""
_WIDE: Final = 4
"""Python's text has up to four bytes for each character, if one of them is not ASCII."""
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[,\[{]', re.DOTALL)

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_streaming: Final[set[Callable[..., Any]]] = set()


def streams_body(endpoint: Endpoint) -> Endpoint:
    """Mark the function of a route that streams its body, and limits it itself."""
    _streaming.add(endpoint)
    return endpoint


class BodyLimit:
    """ASGI middleware, inside the guard. Reading a body raises an error if the body is over a limit.

    Raises:
        RequestTooLarge: the body has more than ``max_bytes`` bytes, or too many JSON values.
        TooManyLargeRequests: the requests that are being served have too many bytes together.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self.max_bytes = max_bytes
        self._held: Counter[str] = Counter()
        """Bytes of large bodies, by owner."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(self, scope, receive)
        try:
            await self._app(scope, body.receive, send)
        finally:
            if body.held_bytes:
                self._held[body.owner] -= body.held_bytes

    def hold(self, owner: str, held_bytes: int, size_bytes: int) -> None:
        """Count a body until its request is answered. It is not refused if no other body is held.

        Args:
            owner: the owner of the request.
            held_bytes: what is counted already of this body.
            size_bytes: what the body takes by now.

        Raises:
            TooManyLargeRequests: the owner's bodies, or all bodies, take too much.
        """
        limit = _HELD_BODIES * self.max_bytes
        for others, most in (
            (self._held[owner] - held_bytes, limit // 2),
            (self._held.total() - held_bytes, limit),
        ):
            if others and others + size_bytes > most:
                raise TooManyLargeRequests(limit // 2)
        self._held[owner] += size_bytes - held_bytes


class _Body:
    """The body of one request."""

    def __init__(self, limit: BodyLimit, scope: Scope, receive: Receive) -> None:
        self._limit = limit
        self._scope = scope
        self._receive = receive
        self._chunks: list[bytes] = []
        self._size = 0
        self._bytes_per_character = 1
        self.held_bytes = 0
        self.owner = key_name(scope)

    async def receive(self) -> Message:
        """Return the next message of the request. Called by the route, so the route is known by now."""
        if getattr(self._scope.get("route"), "endpoint", None) in _streaming:
            return await self._receive()
        if declared_length(self._scope) > self._limit.max_bytes:
            raise RequestTooLarge(self._limit.max_bytes)
        message = await self._receive()
        if message["type"] == "http.request":
            self._take(message.get("body", b""))
            if not message.get("more_body", False):
                self._check_values()
        return message

    def _take(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._limit.max_bytes:
            raise RequestTooLarge(self._limit.max_bytes)
        self._chunks.append(chunk)
        if not chunk.isascii() or b"\\u" in chunk:
            self._bytes_per_character = _WIDE
        if self._size > _SMALL_BYTES:
            memory = self._size * self._bytes_per_character
            self._limit.hold(self.owner, self.held_bytes, memory)
            self.held_bytes = memory

    def _check_values(self) -> None:
        if self._size > _SMALL_BYTES:
            tokens = _TOKEN.finditer(b"".join(self._chunks))
            if next(islice(tokens, _MAX_VALUES, None), None) is not None:
                raise RequestTooLarge(_MAX_VALUES, "JSON values")
        self._chunks.clear()


def limited(receive: Receive, max_bytes: int) -> Receive:
    """Return a ``receive`` that raises ``RequestTooLarge`` for a body of more than ``max_bytes`` bytes."""
    size = 0

    async def receive_within_limit() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > max_bytes:
            raise RequestTooLarge(max_bytes)
        return message

    return receive_within_limit


def declared_length(scope: Scope) -> int:
    """Return the ``Content-Length`` of a request in bytes; 0 if it has none."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
