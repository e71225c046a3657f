"""The standing connection to a supervisor on which cells are begun, and the frames of a cell."""

import asyncio
import json
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final

import aiohttp

from kernel_image import contract
from sessions.kernels.errors import KernelEnded
from sessions.kernels.supervisor_http import (
    CALL_SEC,
    FRAME_BYTES,
    SupervisorHttp,
    SupervisorRefused,
    aiohttp_errors,
    invalid_response_errors,
    parse_object,
)
from sessions.models import JsonObject

Frames = AsyncGenerator[tuple[int, bytes]]
"""Kind and payload of each frame. The last frame is of the kind `contract.FRAME_END`."""

_CLOSE_SEC: Final = 1.5
_HEADER_BYTES: Final = struct.calcsize(contract.FRAME_HEADER)
_KERNEL_ENDED: Final = 410
_REASON_CHARACTERS: Final = 2000


class CellSocket:
    """A WebSocket to a supervisor. It begins one cell after the other, and reads their frames."""

    def __init__(self, http: SupervisorHttp) -> None:
        self._http = http
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._has_unread_frames = False
        self._closing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def begin(self, request: JsonObject) -> AsyncIterator[Frames]:
        """Begin a cell, and give its frames.

        Raises:
            KernelEnded: there is no kernel, and no code has run.
            SupervisorFailed: the supervisor refused the cell, or does not answer.
        """
        with aiohttp_errors():
            socket = await self._connected()
        self._has_unread_frames = True
        try:
            with aiohttp_errors():
                await socket.send_str(json.dumps(request, ensure_ascii=False))
                self._check(parse_object((await socket.receive_str(timeout=CALL_SEC)).encode()))
            async with aclosing(self._frames(socket)) as frames:
                yield frames
        finally:
            if self._has_unread_frames:
                # The next cell would read these frames. Closing waits for the other side, so do it in a task.
                self._socket = None
                self._closing = asyncio.create_task(_close(socket))

    async def close(self) -> None:
        """Close the connection. The next cell opens a new one."""
        if self._socket is not None:
            await _close(self._socket)
            self._socket = None

    async def _connected(self) -> aiohttp.ClientWebSocketResponse:
        if self._socket is None or self._socket.closed:
            self._socket = await self._http.open_websocket("/cells")
        return self._socket

    def _check(self, response: JsonObject) -> None:
        """Raise an error if the supervisor has refused the cell."""
        if "error" in response:
            with invalid_response_errors():
                status, reason = int(response["status"]), str(response["error"])[:_REASON_CHARACTERS]
            self._has_unread_frames = False
            if status == _KERNEL_ENDED:
                raise KernelEnded(f"cell: {status}", reason)
            raise SupervisorRefused("cell", status, reason)

    async def _frames(self, socket: aiohttp.ClientWebSocketResponse) -> Frames:
        with aiohttp_errors():
            while self._has_unread_frames:
                message = memoryview(await socket.receive_bytes())
                while message:
                    kind, length = struct.unpack_from(contract.FRAME_HEADER, message)
                    payload, message = message[_HEADER_BYTES:][:length], message[_HEADER_BYTES + length :]
                    if len(payload) != length:
                        raise ValueError("a frame is shorter than its length says")
                    self._has_unread_frames = kind != contract.FRAME_END
                    yield kind, bytes(payload)
                    if kind == contract.FRAME_END:
                        return


async def read_frames(reader: aiohttp.StreamReader) -> Frames:
    """Read the frames of a cell from the body of a response."""
    with aiohttp_errors():
        while True:
            kind, length = struct.unpack(contract.FRAME_HEADER, await reader.readexactly(_HEADER_BYTES))
            if length > FRAME_BYTES:
                raise ValueError(f"a frame has {length} bytes")
            yield kind, await reader.readexactly(length)
            if kind == contract.FRAME_END:
                return


async def _close(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Close a WebSocket. The time limit is for a peer that keeps sending: aiohttp would wait for a pause."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SEC):
            await socket.close()
