"""An HTTP connection that waits for nobody for long, and holds no more than a bounded head.

The server's own protocol closes what idles between requests. Here belong the clients that begin and do
not go on: half a head, half a body, an answer that is not taken. Each would keep a descriptor, and what
its request has taken, for good.
"""

import asyncio
import json
import logging
import re
import uuid
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

_HEAD_BYTES: Final = 1 << 16
_BODY_SEC: Final = 600.0
"""Longest time for a body, however steadily it comes."""
_SOCKETS: Final = re.compile(rb"/api/kernels/[^/?]+/channels(\?.*)?")


def refusal(status: str, detail: str, code: str) -> bytes:
    """An answer to what does not become a request: it looks as every other refusal, and is logged."""
    body, request_id = refusal_body(detail, code), uuid.uuid4().hex
    log.info("no request: %s", status, extra={"request_id": request_id})
    return (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
    ).encode("ascii") + body


def refusal_body(detail: str, code: str) -> bytes:
    """What is wrong, as a JSON object."""
    return json.dumps({"detail": detail, "code": code}, separators=(",", ":")).encode("ascii")


class Connection(HttpToolsProtocol):
    """Hangs up on a client that is silent for `patience_sec` while something is expected of it."""

    patience_sec: float = 30.0
    _in_head = True
    _head_bytes = 0
    _heads = 0
    _body_until = 0.0
    _heard_at = 0.0
    _awaiting: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await()

    def connection_lost(self, exc: Exception | None) -> None:
        self._await_no_more()
        self.resume_writing()
        super().connection_lost(exc)

    # --- what the client sends --------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            room = _HEAD_BYTES - self._head_bytes
            self._head_bytes += len(data)
            if len(data) > room:
                heads = self._heads
                super().data_received(data[:room])
                if self.transport.is_closing():
                    return
                if self._heads == heads:
                    detail = f"The head of a request has at most {_HEAD_BYTES} bytes"
                    self._refuse("431 Request Header Fields Too Large", detail, "request_header_too_large")
                    return
                data = data[room:]
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        self._refuse("400 Bad Request", msg, "bad_request")

    def _refuse(self, status: str, detail: str, code: str) -> None:
        self.transport.write(refusal(status, detail, code))
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._await()

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._heads += 1
        self._body_until = self.loop.time() + _BODY_SEC
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._heard_at = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._await_no_more()
        super().on_message_complete()

    def _await(self) -> None:
        """Start to wait for data from the client."""
        self._await_no_more()
        self._heard_at = self.loop.time()
        self._awaiting = self.loop.call_later(self.patience_sec, self._look)

    def _await_no_more(self) -> None:
        if self._awaiting is not None:
            self._awaiting.cancel()
            self._awaiting = None

    def _look(self) -> None:
        now = self.loop.time()
        left = self._heard_at + self.patience_sec - now
        if self._in_head:
            self.transport.abort()
        elif self.flow.read_paused:
            # The service has paused reading, so the client is not the slow side.
            self._awaiting = self.loop.call_later(self.patience_sec, self._look)
        elif left <= 0 or now > self._body_until:
            self.transport.abort()
        else:
            self._awaiting = self.loop.call_later(left, self._look)

    # --- WebSockets -------------------------------------------------------------------------------

    def _should_upgrade(self) -> bool:
        """Elsewhere an upgrade is an offer that is not taken: the request is answered as any other."""
        is_socket = self.scope["method"] == "GET" and _SOCKETS.fullmatch(self.url) is not None
        return is_socket and super()._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        self._await_no_more()
        super().handle_websocket_upgrade()

    # --- what it does not take --------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.patience_sec, self.transport.abort)

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()


def patient_for(seconds: float) -> type[HttpToolsProtocol]:
    """The protocol of connections whose clients may be silent for so long."""
    return type("Connection", (Connection,), {"patience_sec": seconds})
