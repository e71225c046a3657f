"""The WebSocket `/api/kernels/{id}/channels`, which carries all channels of a kernel for one client."""

import asyncio
import uuid
from typing import Final

import aiohttp
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from service.gateway import frames
from service.gateway.clients import Client, TooMuchWaiting
from service.gateway.errors import ANSWERS
from service.gateway.frames import MalformedFrame
from service.gateway.gateway import Gateway
from service.http.answers import answer_to
from service.http.forwarding import Forwarder, is_passed_on
from service.http.guard import caller_of
from sessions.errors import CallFailed, SessionElsewhere, SessionEnded, SessionMoving, SessionNotFound
from sessions.manager.manager import SessionManager
from sessions.models import PackedMessage

router = APIRouter()

_MAX_NAME_CHARACTERS: Final = 256
_NORMAL: Final = 1000
_GOING_AWAY: Final = 1001
_INVALID_DATA: Final = 1007
_TRY_AGAIN_LATER: Final = 1013
"""Close codes of RFC 6455 and of IANA's registry."""


@router.websocket("/api/kernels/{kernel_id}/channels")
async def channels(websocket: WebSocket, kernel_id: str) -> None:
    """Connect a client to the channels of a kernel, in the frame form that the client asks for."""
    sessions: SessionManager = websocket.app.state.sessions
    gateway: Gateway = websocket.app.state.gateway
    try:
        session = await sessions.get(kernel_id, caller_of(websocket.scope).owner)
        name = websocket.query_params.get("session_id") or uuid.uuid4().hex
        client = gateway.connect(session, name[:_MAX_NAME_CHARACTERS])
    except SessionElsewhere as error:
        await _forward(websocket, error)
        return
    except CallFailed as error:
        refusal = SessionNotFound(kernel_id) if isinstance(error, SessionEnded) else error
        await answer_to(refusal, ANSWERS)(websocket.scope, websocket.receive, websocket.send)
        return
    replaced = client.replaced
    try:
        is_v1 = frames.V1 in websocket.scope["subprotocols"]
        await websocket.accept(frames.V1 if is_v1 else None)
        await ClientConnection(websocket, client, gateway.decoding, is_v1=is_v1).serve(replaced)
    finally:
        if client.replaced is replaced:
            client.disconnect()


async def _forward(websocket: WebSocket, error: SessionElsewhere) -> None:
    """Connect the WebSocket to the replica that holds the session."""
    forwarder: Forwarder = websocket.app.state.forwarder
    refusal = SessionMoving(error.session_id)
    try:
        if not is_passed_on(websocket.scope):
            await forwarder.join(websocket, error.url, caller_of(websocket.scope))
            return
    except (aiohttp.ClientError, TimeoutError):
        if websocket.client_state is not WebSocketState.CONNECTING:
            raise
    await answer_to(refusal, ANSWERS)(websocket.scope, websocket.receive, websocket.send)


class ClientConnection:
    """Passes the frames of one WebSocket to a client, and sends the messages in the client's queue."""

    def __init__(self, websocket: WebSocket, client: Client, decoding: asyncio.Lock, *, is_v1: bool) -> None:
        """Make the connection of a WebSocket.

        Args:
            websocket: the WebSocket, which is accepted.
            client: the client that uses it.
            decoding: is held while a large frame is decoded, which takes many times its size in memory.
            is_v1: the form of the frames, in both directions: see `service.gateway.frames`.
        """
        self._websocket = websocket
        self._decoding = decoding
        self._client = client
        self._is_v1 = is_v1
        self._accepts_binary = False
        """Whether a client that uses the default form has itself sent a binary frame.

        Jupyter's own gateway client reads every frame as text and stops at a binary one.
        """

    async def serve(self, replaced: asyncio.Event) -> None:
        """Serve until one side closes the WebSocket, or until the client connects with another one.

        Args:
            replaced: is set when another WebSocket takes the place of this one.
        """
        work = (self._read(), self._write(), self._wait_until_replaced(replaced))
        tasks = [asyncio.create_task(task) for task in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            code = max(task.result() for task in done)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        states = (self._websocket.client_state, self._websocket.application_state)
        if states == (WebSocketState.CONNECTED, WebSocketState.CONNECTED):
            await self._websocket.close(code)

    async def _wait_until_replaced(self, replaced: asyncio.Event) -> int:
        await replaced.wait()
        return _GOING_AWAY

    async def _read(self) -> int:
        """Pass frames to the client until there are no more; return the close code."""
        while True:
            frame = await self._websocket.receive()
            if frame["type"] == "websocket.disconnect":
                return _NORMAL
            try:
                channel, message = await self._decode(frame.pop("bytes"), is_text=frame["is_text"])
                self._client.receive(channel, message)
                del message
            except MalformedFrame:
                return _INVALID_DATA
            except TooMuchWaiting:
                return _TRY_AGAIN_LATER

    async def _decode(self, data: bytes, *, is_text: bool) -> tuple[str, PackedMessage]:
        self._accepts_binary = self._accepts_binary or not is_text
        if self._is_v1 and is_text:
            raise MalformedFrame("a text frame, in a form that has none")
        if len(data) < frames.LARGE_BYTES:
            return self._decoded(data, is_text=is_text)
        async with self._decoding:
            return await asyncio.to_thread(self._decoded, data, is_text=is_text)

    def _decoded(self, data: bytes, *, is_text: bool) -> tuple[str, PackedMessage]:
        channel, message = frames.from_v1(data) if self._is_v1 else frames.from_default(data, is_text=is_text)
        return channel, message.packed()

    async def _write(self) -> int:
        """Send the client's messages until there are no more; return the close code."""
        queue = self._client.queue
        while (encoded := await queue.get()) is not None:
            frame = (
                frames.to_v1(encoded)
                if self._is_v1
                else frames.to_default(encoded, binary=self._accepts_binary)
            )
            try:
                await self._websocket.send(
                    {"type": "websocket.send", "pieces": frame.pieces, "is_text": frame.is_text}
                )
            except WebSocketDisconnect:
                queue.put_back(encoded)
                return _NORMAL
            except asyncio.CancelledError:
                queue.put_back(encoded)
                raise
        return _GOING_AWAY
