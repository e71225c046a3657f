"""A WebSocket connection with time limits for slow clients, and without URLs in the log."""

import asyncio
import http
import logging
import struct
from collections.abc import Sequence
from typing import Any, Final

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.http11 import Response

from service.http.server.connection import refusal, refusal_body
from service.http.server.large_messages import LargeMessages
from service.http.server.turns import Turns
from service.http.server.websocket_frames import PacedWebSocket
from service.telemetry.request_context import current, request_id_of

_CLOSE_SEC: Final = 2.0
"""Maximum time for the client to answer a close frame, in seconds."""
_INVALID_HANDSHAKE: Final = "invalid_handshake"
_TEXT: Final = 0x81
_BINARY: Final = 0x82
"""First bytes of frames that are whole messages."""
_LARGE_BYTES: Final = 1 << 16
"""A message of this size is sent without a copy of it."""

log = logging.getLogger(__name__)
_quiet = logging.getLogger("uvicorn.websockets")
"""Replaces uvicorn's logger, which logs the whole URL. The URL may contain a key."""
_quiet.setLevel(logging.WARNING)


class WebSocketConnection(PacedWebSocket):
    """Disconnects a client that does not read for `patience_sec`, or does not answer a ping.

    Besides `bytes` and `text`, a `websocket.send` event may have `pieces` of a message and `is_text`. The
    pieces are not copied, and the event has been sent when the client has read most of them.
    """

    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.close_timeout = min(self.close_timeout, self.patience_sec, _CLOSE_SEC)
        self.logger = self.conn.logger = _quiet
        self.conn.reject = self._reject  # type: ignore[method-assign]

    def _reject(self, status: http.HTTPStatus | int, text: str) -> Response:
        """Return the response to a handshake that the library refuses, in the form of all errors."""
        status, context = http.HTTPStatus(status), current()
        if context is None:
            # A handshake that could not be parsed has no request context.
            headers = self.request.headers.raw_items() if hasattr(self, "request") else ()
            request_id = request_id_of(
                (name.lower().encode(), value.encode("latin-1")) for name, value in headers
            )
            log.info("refused an invalid WebSocket handshake: %d", status, extra={"request_id": request_id})
        else:
            request_id = context.request_id
        code = _INVALID_HANDSHAKE if status < 500 else "internal"
        body = refusal_body(text.strip().partition("\n")[0], code)
        return Response(
            status,
            status.phrase,
            Headers(
                {
                    "Content-Type": "application/json",
                    "Content-Length": str(len(body)),
                    "Connection": "close",
                    "X-Request-ID": request_id,
                }
            ),
            body,
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuse data that is not a handshake. The first call has the whole head of the request."""
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            detail = "The request is not a valid WebSocket handshake"
            output = b"".join(self.conn.data_to_send())
            self.transport.write(output or refusal("400 Bad Request", detail, _INVALID_HANDSHAKE))
            self.transport.close()

    async def send(self, message: Any) -> None:
        if "pieces" in message:
            await self._send_pieces(message["pieces"], _TEXT if message["is_text"] else _BINARY)
            return
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            # A refused handshake is complete as well.
            self.handshake_complete = True

    async def _send_pieces(self, pieces: Sequence[bytes], opcode: int) -> None:
        """Send a message as one frame. Raises `ClientDisconnected` unless the client has read most of it."""
        await self.writable.wait()
        if self.disconnected or self.close_sent or self.transport.is_closing():
            raise ClientDisconnected
        size = sum(map(len, pieces))
        head = frame_head(opcode, size)
        if size < _LARGE_BYTES:
            self.transport.write(b"".join((head, *pieces)))
            return
        # The transport keeps these very objects until they are sent, and other transports keep them too.
        self.transport.writelines((head, *pieces))
        await self.writable.wait()
        if self.disconnected:
            raise ClientDisconnected

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(self.patience_sec, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_waiting()
        super().resume_writing()

    def keepalive_timeout(self) -> None:
        """Disconnect at once, because closing would wait until the client has read all data."""
        if self.is_behind:
            # The answer may be in the data that waits for this side.
            self.pong_timer = self.loop.call_later(self.patience_sec, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        self.transport.abort()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self.loop.call_later(self.close_timeout, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None


def frame_head(first: int, size: int) -> bytes:
    """Return the bytes of a frame before its payload of `size` bytes, which is not masked."""
    if size < 126:
        return bytes((first, size))
    return struct.pack("!BBH", first, 126, size) if size < 1 << 16 else struct.pack("!BBQ", first, 127, size)


def patient_socket_for(seconds: float) -> type[WebSocketsSansIOProtocol]:
    """Return a class of WebSockets for one service, which disconnect slow clients after `seconds`."""
    limits = {"patience_sec": seconds, "turns": Turns(), "large_messages": LargeMessages()}
    return type("WebSocketConnection", (WebSocketConnection,), limits)
