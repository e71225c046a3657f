"""`/api/kernels/{id}/channels`: one socket of a client."""

import asyncio
import uuid
from typing import Final

import aiohttp
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from service.gateway import wire
from service.gateway.client import Client
from service.gateway.hubs import Hubs
from service.http.answers import answer_to
from service.http.forwarding import Forwarder, is_passed_on
from service.http.guard import caller_of
from sessions.errors import CallFailed, SessionElsewhere, SessionEnded, SessionMoving, SessionNotFound
from sessions.manager import SessionManager
from sessions.models import KernelMessage

router = APIRouter()

_KEY_CHARACTERS: Final = 256
_LARGE_BYTES: Final = 1 << 18
"""Frames that are read on a thread, so that others have their turn."""
_INVALID_DATA: Final = 1007
_GOING_AWAY: Final = 1001
_NORMAL: Final = 1000


@router.websocket("/api/kernels/{kernel_id}/channels")
async def channels(websocket: WebSocket, kernel_id: str) -> None:
    """The channels of a kernel, in the form that the client asks for."""
    sessions: SessionManager = websocket.app.state.sessions
    hubs: Hubs = websocket.app.state.hubs
    try:
        session = await sessions.get(kernel_id, caller_of(websocket.scope).owner)
        name = websocket.query_params.get("session_id") or uuid.uuid4().hex
        hub, client = hubs.attach(session, name[:_KEY_CHARACTERS])
    except SessionElsewhere as error:
        await _join_elsewhere(websocket, error)
        return
    except CallFailed as error:
        refusal = SessionNotFound(kernel_id) if isinstance(error, SessionEnded) else error
        await answer_to(refusal)(websocket.scope, websocket.receive, websocket.send)
        return
    replaced = client.replaced
    try:
        is_v1 = wire.V1 in websocket.scope["subprotocols"]
        await websocket.accept(wire.V1 if is_v1 else None)
        await Socket(websocket, client, is_v1=is_v1).serve(replaced)
    finally:
        if client.replaced is replaced:
            hub.detach(client)


async def _join_elsewhere(websocket: WebSocket, error: SessionElsewhere) -> None:
    """Have the replica that holds the session serve a socket."""
    forwarder: Forwarder = websocket.app.state.forwarder
    refusal = SessionMoving(error.session_id)
    try:
        if not is_passed_on(websocket.scope):
            await forwarder.join(websocket, error.url, caller_of(websocket.scope))
            return
    except (aiohttp.ClientError, TimeoutError):
        if websocket.client_state is not WebSocketState.CONNECTING:
            raise
    await answer_to(refusal)(websocket.scope, websocket.receive, websocket.send)


class Socket:
    """Takes a client's frames and sends what is in its outbox, until either ends."""

    def __init__(self, websocket: WebSocket, client: Client, *, is_v1: bool) -> None:
        self._websocket = websocket
        self._client = client
        self._is_v1 = is_v1
        self._takes_binary = False
        """Whether the client of a text protocol has itself sent a binary frame.

        Jupyter's own gateway client takes every frame for text, and stops at one that is none.
        """

    async def serve(self, replaced: asyncio.Event) -> None:
        """Return when the socket is closed, by whomever."""
        work = (self._read(), self._write(), self._leave_to_the_next(replaced))
        tasks = [asyncio.create_task(task) for task in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            code = max(task.result() for task in done)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._websocket.client_state is WebSocketState.CONNECTED:
            await self._websocket.close(code)

    async def _leave_to_the_next(self, replaced: asyncio.Event) -> int:
        await replaced.wait()
        return _GOING_AWAY

    async def _read(self) -> int:
        while True:
            frame = await self._websocket.receive()
            if frame["type"] == "websocket.disconnect":
                return _NORMAL
            data: str | bytes = frame["text"] if frame.get("text") is not None else frame["bytes"]
            try:
                channel, message = await self._decode(data)
            except wire.Malformed:
                return _INVALID_DATA
            self._client.receive(channel, message, len(data))

    async def _decode(self, data: str | bytes) -> tuple[str, KernelMessage]:
        self._takes_binary = self._takes_binary or isinstance(data, bytes)
        if self._is_v1:
            if isinstance(data, str):
                raise wire.Malformed("text, in a protocol that has none")
            if len(data) >= _LARGE_BYTES:
                return await asyncio.to_thread(wire.from_v1, data)
            return wire.from_v1(data)
        if len(data) >= _LARGE_BYTES:
            return await asyncio.to_thread(wire.from_default, data)
        return wire.from_default(data)

    async def _write(self) -> int:
        outbox = self._client.outbox
        while (packed := await outbox.get()) is not None:
            try:
                if self._is_v1:
                    await self._websocket.send_bytes(wire.to_v1(packed))
                    continue
                frame = wire.to_default(packed, binary=self._takes_binary)
                if isinstance(frame, str):
                    await self._websocket.send_text(frame)
                else:
                    await self._websocket.send_bytes(frame)
            except WebSocketDisconnect:
                outbox.put_back(packed)
                return _NORMAL
            except asyncio.CancelledError:
                outbox.put_back(packed)
                raise
        return _GOING_AWAY
