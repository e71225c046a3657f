"""Forwards calls unchanged to the replica that holds the session, and returns its response.

This replica has authenticated the caller. Two headers, signed with the secret that all replicas share, name
the caller to the other replica. They also mark the call as forwarded, so that it is not forwarded again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, Literal, Self, TypeVar

import aiohttp
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask
from starlette.types import Scope
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from yarl import URL

from service.http.answers import answer_to
from service.http.server_sent_events import EVENT_STREAM_TYPE, format_error
from service.http.signatures import CALLER_HEADER, SIGNATURE_HEADER, Signer, path_of
from service.replicas.errors import ReplicaLost
from service.telemetry.request_context import REQUEST_ID_HEADER, current
from sessions.errors import RegistryUnavailable, SessionElsewhere, SessionMoving
from sessions.models import Caller

log = logging.getLogger(__name__)

T = TypeVar("T")
_OtherWebSocket = aiohttp.ClientWebSocketResponse[Literal[False]]
"""A WebSocket whose texts are not decoded."""

_CONNECT_SEC: Final = 3.0
_KEEP_SEC: Final = 2.0
_FRAME_BYTES: Final = 1 << 28
_HOP_BY_HOP: Final = frozenset(
    {"connection", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"}
    | {"transfer-encoding", "upgrade", CALLER_HEADER, SIGNATURE_HEADER}
)
_REQUEST_ID: Final = REQUEST_ID_HEADER.decode()
_SET_BY_EACH_REPLICA: Final = frozenset({"date", _REQUEST_ID})
"""Response headers that each replica sets itself."""
_ALWAYS_FORWARDED: Final = frozenset({"host", "content-length"})
"""Headers that are forwarded even if the `Connection` header of the request names them."""
_NEVER_SENT: Final = (None, 1005, 1006)
"""Close codes that are never sent: the other side vanished without a close frame."""
_GOING_AWAY: Final = 1001
_WEBSOCKET_PREFIX: Final = "sec-websocket-"


def is_passed_on(scope: Scope) -> bool:
    """Return whether another replica forwarded the request to this one."""
    return bool(scope.get("state", {}).get("passed_on"))


class Forwarder:
    """Sends calls to other replicas. Use as `async with Forwarder(...)`."""

    def __init__(self, signer: Signer, is_there: Callable[[str], Awaitable[bool]], lease_sec: float) -> None:
        """Make a forwarder.

        Args:
            signer: signs the headers that name the caller.
            is_there: returns whether the replica at a URL is alive. It is called whenever that replica has
                sent nothing for half a lease.
            lease_sec: duration of a replica's lease in seconds.
        """
        self._signer = signer
        self._is_there = is_there
        self._check_sec = lease_sec / 2
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SEC)
        # The other replica keeps idle connections longer, so a call never gets one that is being closed.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_SEC)
        self._http = aiohttp.ClientSession(
            timeout=timeout, connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def answer_of(self, url: str, request: Request, session_id: str | None = None) -> Response:
        """Return the response of another replica to a request, or an error if the replica does not answer."""
        try:
            return await self._forward(request, url, request.scope["state"]["caller"])
        except (aiohttp.ClientError, TimeoutError) as failure:
            log.warning("the replica at %s does not answer: %s", url, failure)
            nothing_ran = isinstance(failure, aiohttp.ClientConnectorError)
            if nothing_ran or request.method in ("GET", "HEAD"):
                return answer_to(SessionMoving(session_id))
            return answer_to(ReplicaLost(session_id))

    async def _forward(self, request: Request, url: str, caller: Caller) -> Response:
        """Send a request to another replica. Its body is read only after the connection is made.

        Raises:
            aiohttp.ClientError: the other replica does not answer.
        """
        path = path_of(request.scope)
        headers = _end_to_end(request.headers.raw)
        headers += self._signer.headers(caller, request.method, path).items()
        if (context := current()) is not None:
            headers = [(name, value) for name, value in headers if name != _REQUEST_ID]
            headers.append((_REQUEST_ID, context.request_id))
        async with AsyncExitStack() as stack:
            sending = self._http.request(
                request.method,
                _address(url, path),
                headers=headers,
                # An announced body must be sent. Otherwise the other replica reads the next call on the
                # connection as that body.
                data=_body(request) if _has_body(request) else None,
                allow_redirects=False,
            )
            answer = await self._while_alive(url, sending.__aenter__())
            stack.push_async_callback(sending.__aexit__, None, None, None)
            close = stack.pop_all().aclose
        response = StreamingResponse(
            self._chunks(url, answer), answer.status, background=BackgroundTask(close)
        )
        response.raw_headers = [
            (name.lower(), value)
            for name, value in answer.raw_headers
            if name.decode("latin-1").lower() not in _HOP_BY_HOP | _SET_BY_EACH_REPLICA
        ]
        return response

    async def _while_alive(self, url: str, work: Coroutine[Any, Any, T]) -> T:
        """Wait for data from another replica, but only while that replica is alive."""
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait({task}, timeout=self._check_sec))[0]:
                with suppress(RegistryUnavailable):
                    if not await self._is_there(url):
                        raise aiohttp.ServerDisconnectedError
            return task.result()
        finally:
            task.cancel()

    async def _chunks(self, url: str, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        last = b""
        try:
            while chunk := await self._while_alive(url, answer.content.readany()):
                yield chunk
                last = chunk
        except aiohttp.ClientError as failure:
            # Only an event stream can report the error. Any other response is cut off.
            if answer.content_type != EVENT_STREAM_TYPE or not last.endswith(b"\n\n"):
                raise
            log.warning("the replica at %s broke off a stream: %s", url, failure)
            yield format_error(str(ReplicaLost())).encode()

    async def join(self, websocket: WebSocket, url: str, caller: Caller) -> None:
        """Connect a WebSocket to another replica, accept it, and copy messages in both directions.

        Raises:
            aiohttp.ClientError: the other replica does not accept the WebSocket.
        """
        path = path_of(websocket.scope)
        headers = [
            (name, value)
            for name, value in _end_to_end(websocket.headers.raw)
            if not name.lower().startswith(_WEBSOCKET_PREFIX)
        ]
        headers += self._signer.headers(caller, "GET", path).items()
        connecting = self._http.ws_connect(
            _address(url, path),
            headers=headers,
            protocols=websocket.scope["subprotocols"],
            max_msg_size=_FRAME_BYTES,
            # Text is passed on as it is. As a `str` it would take up to four times its size.
            decode_text=False,
            heartbeat=2 * self._check_sec,
        )
        async with connecting as other:
            await websocket.accept(other.protocol)
            directions = [
                asyncio.create_task(direction)
                for direction in (_copy_to_replica(websocket, other), _copy_to_client(websocket, other))
            ]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
            if websocket.client_state is WebSocketState.CONNECTED:
                code = other.close_code
                await websocket.close(_GOING_AWAY if code in _NEVER_SENT else code)


async def forward_to_holder(request: Request, error: Exception) -> Response:
    """Return the response of the replica that holds the session, or SessionMoving if that is impossible."""
    assert isinstance(error, SessionElsewhere)
    forwarder: Forwarder | None = getattr(request.app.state, "forwarder", None)
    if forwarder is None or is_passed_on(request.scope):
        return answer_to(SessionMoving(error.session_id))
    return await forwarder.answer_of(error.url, request, error.session_id)


def _address(url: str, path: str) -> URL:
    """Return the URL of a path at another replica. The path is not re-encoded, because it is signed."""
    return URL(url.rstrip("/") + path, encoded=True)


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Return the headers without those that concern only one connection."""
    decoded = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    named = {
        word.strip().lower() for name, value in decoded if name == "connection" for word in value.split(",")
    }
    return [(name, value) for name, value in decoded if name not in _HOP_BY_HOP | named - _ALWAYS_FORWARDED]


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk


async def _copy_to_replica(websocket: WebSocket, other: _OtherWebSocket) -> None:
    while True:
        frame = await websocket.receive()
        if frame["type"] == "websocket.disconnect":
            return
        kind = aiohttp.WSMsgType.TEXT if frame["is_text"] else aiohttp.WSMsgType.BINARY
        await other.send_frame(frame.pop("bytes"), kind)


async def _copy_to_client(websocket: WebSocket, other: _OtherWebSocket) -> None:
    try:
        async for frame in other:
            if frame.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                is_text = frame.type is aiohttp.WSMsgType.TEXT
                await websocket.send({"type": "websocket.send", "pieces": (frame.data,), "is_text": is_text})
    except WebSocketDisconnect:
        return
