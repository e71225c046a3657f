"""An HTTP connection with limits of time and size.

uvicorn's own protocol closes connections that are idle after a response. This one also disconnects clients
that send nothing, half a head or half a body, or that do not read the response. Without these limits, each
such client would keep a file descriptor and the resources of its request. It bounds what a client can make
the service keep before a route reads the request: the head, the trailers, and the requests that wait for
their turn. It bounds how much is parsed in one turn of the event loop, so that other connections are served.
"""

import asyncio
import json
import logging
import re
import uuid
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

log = logging.getLogger(__name__)

_HEAD_BYTES: Final = 1 << 15
"""Largest head of a request. The chunk sizes, chunk extensions and trailers of a body may have as many bytes,
and one more for each byte of the body.
"""
_MAX_FIELDS: Final = 200
"""Most header fields of a request."""
_MAX_WAITING: Final = 8
"""Most requests of a connection that wait until earlier ones are answered."""
_PARSED_BYTES: Final = 1 << 14
"""Bytes of a connection that are parsed in one turn of the event loop."""
_BODY_SEC: Final = 600.0
"""Maximum time for sending a body, even if its data arrives steadily."""
_SOCKETS: Final = re.compile(rb"/api/kernels/[^/?]+/channels(\?.*)?")


class _Refused(Exception):
    """Stops the parser: the rest of the request is not read."""


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
    max_connections: int = 1000
    received_at = 0.0
    """When the client began a request, or sent a part of a body, by the clock of the event loop."""
    _unparsed = b""
    """Received data. Nothing more is read while there is some, so it is the data of one read at most."""
    _parsing: asyncio.Handle | None = None
    _ignores_data = False
    _refusal = ("400 Bad Request", "Invalid HTTP request received.", "bad_request")
    """Status, detail and code of the response if the parser stops."""
    _in_head = True
    _received_bytes = 0
    """Bytes of the present request, as far as it was parsed."""
    _body_bytes = 0
    """Bytes of its body."""
    _body_until = 0.0
    _wait_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # uvicorn pauses and resumes reading by `flow`, and this class does while data waits to be parsed.
        self.flow = FlowControl(self)  # type: ignore[arg-type]
        self._start_waiting()
        if len(self.connections) > self.max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ignore_data()
        self.resume_writing()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether no request of this connection waits for its response."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def _make_room(self) -> None:
        """Disconnect the client that has been idle for the longest time; refuse this one if none is idle."""
        others = (one for one in self.connections if isinstance(one, Connection) and one is not self)
        idle = [one for one in others if one.is_idle and not one.transport.is_closing()]
        if idle:
            min(idle, key=lambda one: one.received_at).transport.abort()
        else:
            detail = f"All MAX_CONNECTIONS={self.max_connections} connections are in use: try again later"
            self._refuse("429 Too Many Requests", detail, "too_many_connections")

    # --- data from the client --------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._ignores_data:
            return
        if self._wait_timer is None and self.is_idle:
            self._start_waiting()
        self._unparsed += data
        if self._parsing is None:
            self._parse()

    def _parse(self) -> None:
        """Parse some of the received data; the rest follows in the next turns of the event loop."""
        self._parsing = None
        if self.transport.is_closing():
            return
        if self._is_reading and self._unparsed:
            piece, self._unparsed = self._unparsed[:_PARSED_BYTES], self._unparsed[_PARSED_BYTES:]
            self._received_bytes += len(piece)
            super().data_received(piece)
            self._check_framing()
            if self.transport.is_closing():
                return
        if not self._is_reading:
            self.transport.pause_reading()
        elif self._unparsed:
            self.transport.pause_reading()
            self._parse_soon()
        else:
            self.transport.resume_reading()

    def _parse_soon(self) -> None:
        if self._parsing is None:
            self._parsing = self.loop.call_soon(self._parse)

    @property
    def _is_reading(self) -> bool:
        """Whether requests are read. If not, the route does not read a body, or earlier requests wait."""
        return not self.flow.read_paused and not self.pipeline

    def pause_reading(self) -> None:
        """Stop reading. Called by `flow`."""
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading. Called by `flow`."""
        self._parse_soon()

    def _ignore_data(self) -> None:
        """Ignore what the client has sent and will send."""
        self._ignores_data, self._unparsed = True, b""
        self._stop_waiting()
        if self._parsing is not None:
            self._parsing.cancel()

    def _check_framing(self) -> None:
        if self._received_bytes - self._body_bytes > _HEAD_BYTES + self._body_bytes:
            part = "head" if self._in_head else "chunk sizes and trailers"
            detail = f"The {part} of the request exceed the maximum of {_HEAD_BYTES} bytes"
            self._refuse("431 Request Header Fields Too Large", detail, "request_header_too_large")

    def send_400_response(self, msg: str) -> None:
        """Refuse data that stopped the parser. Called by uvicorn."""
        self._refuse(*self._refusal)

    def _refuse(self, status: str, detail: str, code: str) -> None:
        """Answer the present request, and close the connection once earlier requests are answered."""
        is_request_running = not self.is_idle and not self._in_head
        self._ignore_data()
        if not self.is_idle and self._in_head:
            self.cycle.keep_alive = False
        elif is_request_running and (self.cycle.response_started or self.pipeline):
            self.transport.abort()
        else:
            if is_request_running:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            self.transport.write(refusal(status, detail, code))
            self.transport.close()

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= _MAX_WAITING:
            raise _Refused
        super().on_message_begin()
        self._start_waiting()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # A trailer. No route reads trailers.
        if len(self.headers) == _MAX_FIELDS:
            detail = f"The request has more than {_MAX_FIELDS} header fields"
            self._refusal = ("431 Request Header Fields Too Large", detail, "request_header_too_large")
            raise _Refused
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
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
        self.received_at = self.loop.time()
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_waiting()
        super().on_message_complete()
        self._in_head = True
        self._received_bytes = self._body_bytes = 0

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._parse_soon()

    def _start_waiting(self) -> None:
        """Start to wait for data from the client."""
        self._stop_waiting()
        self.received_at = self.loop.time()
        self._wait_timer = self.loop.call_later(self.patience_sec, self._check_silence)

    def _stop_waiting(self) -> None:
        if self._wait_timer is not None:
            self._wait_timer.cancel()
            self._wait_timer = None

    def _check_silence(self) -> None:
        now = self.loop.time()
        left = self.received_at + self.patience_sec - now
        if not self._is_reading:
            # The service has paused reading, so the client is not the slow side.
            self._wait_timer = self.loop.call_later(self.patience_sec, self._check_silence)
        elif self._in_head or left <= 0 or now > self._body_until:
            self.transport.abort()
        else:
            self._wait_timer = self.loop.call_later(left, self._check_silence)

    # --- WebSockets -------------------------------------------------------------------------------

    def _should_upgrade(self) -> bool:
        """Upgrade only the paths of WebSockets. On other paths, the `Upgrade` header is ignored."""
        is_socket = self.scope["method"] == "GET" and _SOCKETS.fullmatch(self.url) is not None
        return is_socket and super()._should_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: every client could fill the log."""

    def handle_websocket_upgrade(self) -> None:
        self._ignore_data()
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


def connection_class(patience_sec: float, max_connections: int) -> type[HttpToolsProtocol]:
    """Return a class of connections that disconnect slow clients, and clients in excess of a number."""
    values = {"patience_sec": patience_sec, "max_connections": max_connections}
    return type("Connection", (Connection,), values)
