"""The path ``/mcp``: streamable HTTP, served by the protocol's SDK.

The first request imports the SDK, which takes half a second.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

from fastapi import APIRouter
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.body_limit import limited
from service.http.guard import caller_of
from sessions.tasks import BackgroundTasks

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from service.mcp.services import McpServices

_MAX_CONVERSATIONS: Final = 500
"""Conversations of one owner at once. Most of them have no session of the service."""
_MAX_OPENING_BYTES: Final = 1 << 14
"""Size of the request that begins a conversation. The SDK keeps it: names, versions and capabilities."""
_IDLE_SEC: Final = 24 * 60 * 60.0
"""A conversation without requests ends after this time. It is long, as few clients can begin a new one."""


class Mcp:
    """ASGI application that serves the protocol while it is open: ``async with Mcp(...) as mcp``.

    Each owner has a session manager of the SDK, so that no owner can use the conversation of another.
    """

    def __init__(self, services: "McpServices") -> None:
        self._services = services
        self._managers: dict[str, asyncio.Future[StreamableHTTPSessionManager]] = {}
        """By owner; a future is done once its manager runs."""
        self._tasks = BackgroundTasks()
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all conversations and delete their sessions, which no client could use any more."""
        self._closing.set()
        await self._tasks.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that the guard has let in."""
        manager = await self._manager(caller_of(scope).owner)
        version = dict(scope["headers"]).get(b"mcp-protocol-version", b"").decode("latin-1")
        if version and version not in _versions():
            await _unsupported_version(version)(scope, receive, send)
            return
        response = _Response(send)
        if b"mcp-session-id" not in dict(scope["headers"]):
            receive = limited(receive, _MAX_OPENING_BYTES)
        await manager.handle_request(scope, receive, response.send)
        await response.complete()

    async def _manager(self, owner: str) -> "StreamableHTTPSessionManager":
        if owner not in self._managers:
            started = self._managers[owner] = asyncio.get_running_loop().create_future()
            self._tasks.start(self._run_manager(started))
        return await asyncio.shield(self._managers[owner])

    async def _run_manager(self, started: "asyncio.Future[StreamableHTTPSessionManager]") -> None:
        """Run the manager of one owner. The SDK wants it to start and end in the same task."""
        try:
            new_manager = await asyncio.to_thread(_import_sdk)
            manager = new_manager(self._services)
        except BaseException as error:
            started.set_exception(error)
            raise
        async with manager.run():
            started.set_result(manager)
            await self._closing.wait()


class _Response:
    """A response that is completed even if the service stops while a stream is being sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_open = False

    async def send(self, message: Message) -> None:
        self._is_open = message["type"] == "http.response.start" or message.get("more_body", False)
        await self._send(message)

    async def complete(self) -> None:
        """Send the end of the body, unless it was sent."""
        if self._is_open:
            await self._send({"type": "http.response.body", "body": b""})


def _import_sdk() -> "Callable[[McpServices], StreamableHTTPSessionManager]":
    """Import the SDK, in a thread so that the event loop goes on, and return a factory of managers."""
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager  # noqa: PLC0415

    from service.mcp.server import Handlers  # noqa: PLC0415

    def new_manager(services: "McpServices") -> StreamableHTTPSessionManager:
        return StreamableHTTPSessionManager(
            Handlers(services).server(),
            # The service has a smaller limit and answers 413 itself.
            max_request_body_size=sys.maxsize,
            max_sessions=_MAX_CONVERSATIONS,
            session_idle_timeout=_IDLE_SEC,
        )

    return new_manager


def _versions() -> tuple[str, ...]:
    """Return the versions of the protocol that have sessions. In later ones each request is independent."""
    from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS  # noqa: PLC0415

    return HANDSHAKE_PROTOCOL_VERSIONS


def _unsupported_version(version: str) -> JSONResponse:
    """Return the error that lists the supported versions. Clients then begin a session in one of them."""
    from mcp_types import UNSUPPORTED_PROTOCOL_VERSION  # noqa: PLC0415

    data = {"supported": list(_versions()), "requested": version[:100]}
    error = {
        "code": UNSUPPORTED_PROTOCOL_VERSION,
        "message": "This server needs sessions: begin one with `initialize`, in a supported version",
        "data": data,
    }
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, 400)


class _Endpoint:
    """ASGI application of the path. It is a class, because a route takes a function for a handler."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        mcp: ASGIApp = scope["app"].state.mcp
        await mcp(scope, receive, send)


router = APIRouter()
router.add_route("/mcp", _Endpoint(), ["GET", "POST", "DELETE"], include_in_schema=False)  # type: ignore[arg-type]
