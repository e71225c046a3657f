"""An HTTP connection with time limits for slow clients, and a size limit for the head of a request.

uvicorn's own protocol closes connections that are idle after a response. This one also disconnects clients
that send nothing, half a head or half a body, or that do not read the response. Without these limits, each
such client would keep a file descriptor and the resources of its request.
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
"""Maximum time for sending a body, even if its data arrives steadily."""
_SOCKETS: Final = re.compile(rb"/api/kernels/[^/?]+/channels(\?.*)?")


def refusal(status: str, detail: str, code: str) -> bytes:
    """Return the response to data that is not a valid request, in the form of all error responses. Log it."""
    body, request_id = refusal_body(detail, code), uuid.uuid4().hex
    log.info("refused an invalid request: %s", status, extra={"request_id": request_id})
    return (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
    ).encode("ascii") + body


def refusal_body(detail: str, code: str) -> bytes:
    """Return the body of an error response."""
    return json.dumps({"detail": detail, "code": code}, separators=(",", ":")).encode("ascii")


class Connection(HttpToolsProtocol):
    """Disconnects a client that stops sending a request, or stops reading a response, for `patience_sec`."""

    patience_sec: float = 30.0
    _in_head = True
    _head_bytes = 0
    _heads = 0
    _body_until = 0.0
    _received_at = 0.0
    _wait_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    # --- data from the client --------------------------------------------------------------------

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
                    detail = f"The head of the request exceeds the maximum of {_HEAD_BYTES} bytes"
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
        self._start_waiting()

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._heads += 1
        self._body_until = self.loop.time() + _BODY_SEC
        self._take_host_of_target()
        super().on_headers_complete()

    def _take_host_of_target(self) -> None:
        """Add the host of a target in absolute form, `GET http://host/path`, to the `Host` headers."""
        if self.url.startswith(b"/"):
            return
        host = self.url.partition(b"://")[2].partition(b"/")[0]
        if host and (b"host", host) not in self.headers:
            self.headers.append((b"host", host))

    def on_body(self, body: bytes) -> None:
        self._received_at = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_waiting()
        super().on_message_complete()

    def _start_waiting(self) -> None:
        """Start to wait for data from the client."""
        self._stop_waiting()
        self._received_at = self.loop.time()
        self._wait_timer = self.loop.call_later(self.patience_sec, self._check_silence)

    def _stop_waiting(self) -> None:
        if self._wait_timer is not None:
            self._wait_timer.cancel()
            self._wait_timer = None

    def _check_silence(self) -> None:
        now = self.loop.time()
        left = self._received_at + self.patience_sec - now
        if self._in_head:
            self.transport.abort()
        elif self.flow.read_paused:
            # The service has paused reading, so the client is not the slow side.
            self._wait_timer = self.loop.call_later(self.patience_sec, self._check_silence)
        elif left <= 0 or now > self._body_until:
            self.transport.abort()
        else:
            self._wait_timer = self.loop.call_later(left, self._check_silence)

    # --- WebSockets -------------------------------------------------------------------------------

    def _should_upgrade(self) -> bool:
        """Upgrade only the paths of WebSockets. On other paths, the `Upgrade` header is ignored."""
        is_socket = self.scope["method"] == "GET" and _SOCKETS.fullmatch(self.url) is not None
        return is_socket and super()._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        self._stop_waiting()
        super().handle_websocket_upgrade()

    # --- data to the client --------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(self.patience_sec, self.transport.abort)

    def resume_writing(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
        super().resume_writing()


def patient_for(seconds: float) -> type[HttpToolsProtocol]:
    """Return a class of connections that disconnect slow clients after `seconds`."""
    return type("Connection", (Connection,), {"patience_sec": seconds})
