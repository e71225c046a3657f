"""``/mcp`` over streamable HTTP. What serves it is made by the first request: the SDK takes half a second."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Self

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from service.http.forwarding import Forwarder, is_passed_on
from service.http.guard import caller_of
from service.http.origin import LOCAL_PAGES
from sessions.tasks import BackgroundTasks

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from service.replicas.leases import Replicas
    from sessions.executions.one_shot import OneShotExecutor
    from sessions.manager import SessionManager

_MAX_CONVERSATIONS: Final = 500
"""Sessions of the protocol that one owner has open at once; most of them have none of ours."""
_IDLE_SEC: Final = 24 * 60 * 60.0
"""When one ends that nobody uses and nobody has ended. Few clients begin anew of themselves."""
_SESSION_ID: Final = b"mcp-session-id"
_OF_REPLICA: Final = "."


class Mcp:
    """Serves the protocol while it is open: ``async with Mcp(...) as mcp``.

    Each owner has a manager of sessions of its own, so nobody else's are there.
    """

    def __init__(
        self, sessions: "SessionManager", executor: "OneShotExecutor", replicas: "Replicas | None" = None
    ) -> None:
        """With `replicas`, ids of the protocol's sessions say which of them has each."""
        self._sessions = sessions
        self._executor = executor
        self._replicas = replicas
        self._managers: dict[str, asyncio.Future[StreamableHTTPSessionManager]] = {}
        self._tasks = BackgroundTasks()
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all of its sessions, and ours with them: nobody could come back to them."""
        self._closing.set()
        await self._tasks.wait()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of the protocol, from whom the guard has let in."""
        if self._replicas is not None:
            url = await self._elsewhere(self._replicas, scope)
            if url is not None:
                await _pass_on(url, scope, receive, send)
                return
            scope, send = _without_replica(scope), _with_replica(self._replicas, send)
        manager = await self._manager(caller_of(scope).owner)
        version = dict(scope["headers"]).get(b"mcp-protocol-version", b"").decode("latin-1")
        if version and version not in _versions():
            await _other_version(version)(scope, receive, send)
            return
        answer = _Answer(send)
        await manager.handle_request(scope, receive, answer.send)
        await answer.complete()

    async def _elsewhere(self, replicas: "Replicas", scope: Scope) -> str | None:
        """The URL of the replica that has a request's conversation; None if it is this one, or gone."""
        replica_id, separator, _ = _session_id(scope).partition(_OF_REPLICA)
        if not separator or replica_id == replicas.replica.replica_id or is_passed_on(scope):
            return None
        return await replicas.registry.url_of(replica_id)

    async def _manager(self, owner: str) -> "StreamableHTTPSessionManager":
        if owner not in self._managers:
            started = self._managers[owner] = asyncio.get_running_loop().create_future()
            self._tasks.start(self._manage(started))
        return await asyncio.shield(self._managers[owner])

    async def _manage(self, started: "asyncio.Future[StreamableHTTPSessionManager]") -> None:
        """The life of one owner's manager, in one task as the SDK wants it."""
        try:
            make = await asyncio.to_thread(_imported)
            manager = make(self._sessions, self._executor)
        except BaseException as error:
            started.set_exception(error)
            raise
        async with manager.run():
            started.set_result(manager)
            await self._closing.wait()


def _session_id(scope: Scope) -> str:
    found: bytes = dict(scope["headers"]).get(_SESSION_ID, b"")
    return found.decode("latin-1")


def _without_replica(scope: Scope) -> Scope:
    """A request as the SDK knows its conversation."""
    plain = _session_id(scope).rpartition(_OF_REPLICA)[2].encode("latin-1")
    headers = [(name, plain if name == _SESSION_ID else value) for name, value in scope["headers"]]
    return {**scope, "headers": headers}


def _with_replica(replicas: "Replicas", send: Send) -> Send:
    """Answers whose conversation's id says who has it."""
    prefix = f"{replicas.replica.replica_id}{_OF_REPLICA}".encode()

    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [
                (name, prefix + value if name.lower() == _SESSION_ID else value)
                for name, value in message.get("headers", ())
            ]
            message = {**message, "headers": headers}
        await send(message)

    return told


async def _pass_on(url: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Have the replica answer that has the conversation."""
    forwarder: Forwarder = scope["app"].state.forwarder
    answer = await forwarder.answer_of(url, Request(scope, receive))
    await answer(scope, receive, send)


class _Answer:
    """An answer that ends as it should, also when the service stops while it is a stream."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_open = False

    async def send(self, message: Message) -> None:
        self._is_open = message["type"] == "http.response.start" or message.get("more_body", False)
        await self._send(message)

    async def complete(self) -> None:
        """Send the end, unless it was."""
        if self._is_open:
            await self._send({"type": "http.response.body", "body": b""})


def _imported() -> "Callable[[SessionManager, OneShotExecutor], StreamableHTTPSessionManager]":
    """Import what is heavy, on a thread, so that other requests are answered meanwhile."""
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager  # noqa: PLC0415

    from service.mcp.server import Handlers  # noqa: PLC0415

    def make(sessions: "SessionManager", executor: "OneShotExecutor") -> "StreamableHTTPSessionManager":
        return StreamableHTTPSessionManager(
            Handlers(sessions, executor).server(),
            # The service's own limit is smaller, and has its own answer.
            max_request_body_size=sys.maxsize,
            max_sessions=_MAX_CONVERSATIONS,
            session_idle_timeout=_IDLE_SEC,
        )

    return make


def _versions() -> tuple[str, ...]:
    """The versions of the protocol that have sessions; in later ones every request is alone."""
    from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS  # noqa: PLC0415

    return HANDSHAKE_PROTOCOL_VERSIONS


def _other_version(version: str) -> JSONResponse:
    """Tells a client which versions it may use: it then begins a session with one of them."""
    from mcp_types import UNSUPPORTED_PROTOCOL_VERSION  # noqa: PLC0415

    data = {"supported": list(_versions()), "requested": version[:100]}
    error = {
        "code": UNSUPPORTED_PROTOCOL_VERSION,
        "message": "This server keeps sessions: begin one with `initialize`, in a version that has them",
        "data": data,
    }
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, 400)


class _Endpoint:
    """ASGI application of the path: refuses what is not for the SDK."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        LOCAL_PAGES.check(scope["headers"])
        serve: Callable[[Scope, Receive, Send], Awaitable[None]] = scope["app"].state.mcp.serve
        await serve(scope, receive, send)


router = APIRouter()
router.add_route("/mcp", _Endpoint(), ["GET", "POST", "DELETE"], include_in_schema=False)  # type: ignore[arg-type]
