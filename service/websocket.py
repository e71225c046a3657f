"""A WebSocket connection that waits for nobody for long, and is as silent in the log as the others."""

import asyncio
import logging
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_BODY: Final = b'{"detail":"This is no handshake of a WebSocket","code":"invalid_handshake"}'
_NO_HANDSHAKE: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"connection: close\r\n\r\n%s" % (len(_BODY), _BODY)
)
_CLOSE_SEC: Final = 2.0
"""How long a client may take to say good-bye as well."""
_INVALID_DATA: Final = 1007
_quiet = logging.getLogger(__name__)
"""In place of uvicorn's, which tells the whole address, with the key that may be in it."""
_quiet.setLevel(logging.WARNING)


class WebSocketConnection(WebSocketsSansIOProtocol):
    """Hangs up on a client that does not take what it is sent for `patience_sec`, or answers no ping."""

    patience_sec: float = 30.0
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.close_timeout = min(self.close_timeout, self.patience_sec, _CLOSE_SEC)
        self.logger = self.conn.logger = _quiet

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The whole head comes with the first call: one that is no handshake gets no second."""
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(_NO_HANDSHAKE)
            self.transport.close()

    def send_receive_event_to_app(self) -> None:
        """Text that is none is the client's business, and none of the log's."""
        try:
            if self.curr_msg_data_type == "text":
                b"".join(self.frames).decode()
        except UnicodeDecodeError:
            self.frames = []
            self.conn.fail(_INVALID_DATA)
            self.handle_parser_exception()
        else:
            super().send_receive_event_to_app()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            # A refusal is an answer, too.
            self.handshake_complete = True

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.patience_sec, self.transport.abort)

    def resume_writing(self) -> None:
        self._wait_no_more()
        super().resume_writing()

    def keepalive_timeout(self) -> None:
        """Closing would wait until what has been sent is taken."""
        super().keepalive_timeout()
        self.transport.abort()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self.loop.call_later(self.close_timeout, self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def patient_socket_for(seconds: float) -> type[WebSocketsSansIOProtocol]:
    """The protocol of WebSockets whose clients may let what they are sent lie for so long."""
    return type("WebSocketConnection", (WebSocketConnection,), {"patience_sec": seconds})
