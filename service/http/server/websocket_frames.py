"""The frames of a WebSocket client, parsed in turns, at a limited rate and in limited memory."""

import asyncio
from codecs import getincrementaldecoder
from socket import IPPROTO_TCP, SO_RCVBUF, SOL_SOCKET, TCP_INFO
from typing import Any, Final

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from service.http.guard import caller_of
from service.http.server.large_messages import Admission, LargeMessages
from service.http.server.turns import Turns
from sessions.rate import Rate

_SMALLEST_PIECE: Final = 1 << 7
_LARGEST_PIECE: Final = 1 << 12
"""Bytes that are parsed at once: few after a piece with frames, more inside a large frame."""
_TURN_BYTES: Final = 1 << 18
"""A turn ends after a piece with a frame, or after so many bytes."""
_MESSAGES_PER_SEC: Final = 250
"""Messages of one client. Further ones wait in the client's socket."""
_FRAME_COST: Final = 0.2
"""Cost of a frame besides that of its message, as a part of the cost of a message."""
_BURST_SEC: Final = 2.0
_MAX_FRAGMENTS: Final = 1000
"""Frames of one message."""
_LARGE_BYTES: Final = 1 << 16
"""A client has to be admitted before more of a message is read."""
_SOCKET_BYTES: Final = 1 << 16
"""Size of the socket's buffer, and so of what may be read from it at once. Linux doubles it."""
_ADMITTED_FACTOR: Final = 4
"""A large message has to be complete within this multiple of `patience_sec`."""
_DISCARDED_BYTES: Final = 1 << 20
"""Data that a client may send after this side has closed, before it is disconnected."""
_TCP_CLOSE: Final = 7
"""State of a TCP connection that was reset, as Linux numbers them."""
_INVALID_DATA: Final = 1007
_POLICY_VIOLATION: Final = 1008
_TRY_AGAIN_LATER: Final = 1013


class PacedWebSocket(WebSocketsSansIOProtocol):
    """Parses the data of a client in pieces, when the connection's turn comes.

    Data is read from the client only when all earlier data is parsed and the application has taken all
    messages (back-pressure).
    """

    patience_sec: float = 30.0
    turns: Turns
    large_messages: LargeMessages
    _is_discarding = False
    """Whether this side has closed, and drops all further data of the client."""
    _discarded_bytes = 0
    _admission: Admission | None = None
    """For a large message, from its first bytes until the application has handled it."""
    _late_timer: asyncio.TimerHandle | None = None
    """Runs while the admission is awaited, and then until the large message is complete."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._backlog = bytearray()
        """Data that is not parsed yet."""
        self._awaits_turn = False
        self._piece_bytes = _SMALLEST_PIECE
        self._turn_cost = 0.0
        """Cost of the frames that were parsed in the present turn, in messages."""
        self._rate = Rate(_BURST_SEC)
        super().connection_made(transport)
        self.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_RCVBUF, _SOCKET_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._backlog.clear()
        self._end_admission()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Have data parsed. The first call has the whole head of the request."""
        if not self.handshake_initiated:
            super().data_received(data)
        elif self._is_discarding:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > _DISCARDED_BYTES:
                self.transport.abort()
        else:
            self._backlog += data
            self._read_on()

    @property
    def is_behind(self) -> bool:
        """Whether data of the client waits for this side."""
        return bool(self._backlog) or self.read_paused

    def _read_on(self) -> None:
        """Have the backlog parsed, or read from the client if there is none."""
        if self._is_discarding or self.transport.is_closing():
            return
        if self._backlog or self._awaits_turn:
            # uvicorn resumes reading when the application has taken a message, whatever the backlog is.
            self.transport.pause_reading()
        elif not self.read_paused:
            self.transport.resume_reading()
        if self._backlog and self.handshake_complete and not (self.read_paused or self._awaits_turn):
            self._awaits_turn = True
            if self._is_admitted():
                self.turns.run(self._take_turn)

    def _take_turn(self) -> float:
        """Parse the start of the backlog. Return the cost of its frames, in messages."""
        self._turn_cost = 0.0
        parsed = 0
        while self._backlog and parsed < _TURN_BYTES and not self._turn_cost:
            if self.transport.is_closing():
                break
            piece = bytes(self._backlog[: self._piece_bytes])
            del self._backlog[: self._piece_bytes]
            parsed += len(piece)
            super().data_received(piece)
            self._piece_bytes = min(2 * self._piece_bytes, _LARGEST_PIECE)
        if self._turn_cost:
            self._piece_bytes = _SMALLEST_PIECE
        wait_sec = self._rate.take(self._turn_cost / _MESSAGES_PER_SEC)
        self.loop.call_later(wait_sec, self._end_turn)
        return self._turn_cost

    def _message_bytes(self) -> int:
        """Return how much of an unfinished message is kept."""
        return len(self.conn.reader.buffer) + (self.conn.current_size or 0)

    def _is_admitted(self) -> bool:
        """Return whether more data may be parsed. If not, the connection's turn comes when it is admitted."""
        if self._admission is None and self._message_bytes() > _LARGE_BYTES:
            self._set_late_timer(self.patience_sec)
            owner = caller_of(dict(self.scope)).owner
            self._admission = self.large_messages.ask(owner, self._admitted)
            return self._admission.is_admitted
        return True

    def _admitted(self) -> None:
        self._set_late_timer(_ADMITTED_FACTOR * self.patience_sec)
        if self._admission is not None:
            self.turns.run(self._take_turn)

    def _set_late_timer(self, seconds: float) -> None:
        self._stop_late_timer()
        reason = "large messages of other clients stay unfinished, or this one does"
        self._late_timer = self.loop.call_later(seconds, self._fail, _TRY_AGAIN_LATER, reason)

    def _stop_late_timer(self) -> None:
        if self._late_timer is not None:
            self._late_timer.cancel()
            self._late_timer = None

    def _end_admission(self) -> None:
        self._stop_late_timer()
        if self._admission is not None:
            admission, self._admission = self._admission, None
            admission.release()

    def _end_turn(self) -> None:
        self._awaits_turn = False
        if self._backlog and not self.transport.is_closing() and self._is_reset():
            self.transport.abort()
        self._read_on()

    def _is_reset(self) -> bool:
        """Return whether the connection is broken, which is not noticed while reading is paused."""
        sock = self.transport.get_extra_info("socket")
        state: int = sock.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0]
        return state == _TCP_CLOSE

    def handle_events(self) -> None:
        self._turn_cost += _FRAME_COST * len(self.conn.events)
        super().handle_events()

    def handle_cont(self, event: Frame) -> None:
        """Close the connection if a message has too many frames, however small they are."""
        if len(self.frames) < _MAX_FRAGMENTS:
            super().handle_cont(event)
        else:
            self._fail(_POLICY_VIOLATION, "a message has too many fragments")

    def _fail(self, code: int, reason: str = "") -> None:
        self.conn.fail(code, reason)
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """Send the close frame, and discard what the client sends until it disconnects.

        If the connection were closed at once, unread data of the client would make Linux reset it, and the
        client would not get the close frame.
        """
        sent = self.conn.close_sent
        assert sent is not None
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self._is_discarding:
            return
        self._is_discarding = self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": sent.code, "reason": sent.reason})
        self.frames = []
        self._backlog.clear()
        self._end_admission()
        self.transport.resume_reading()
        if self.close_timer is None:
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    async def receive(self) -> Any:
        """Return the next message. The application has handled the one before."""
        if self.queue.empty() and self._message_bytes() <= _LARGE_BYTES:
            self._end_admission()
        message = await super().receive()
        self._read_on()
        return message

    def send_receive_event_to_app(self) -> None:
        """Pass a message on as bytes, also a text, of which `is_text` is true.

        As a `str`, a text would take up to four times its size. One that is not UTF-8 closes the connection.
        """
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        is_text = self.curr_msg_data_type == "text"
        if is_text and not _is_utf8(data):
            self._fail(_INVALID_DATA)
            return
        self._turn_cost += 1
        self._stop_late_timer()
        event: Any = {"type": "websocket.receive", "bytes": data, "is_text": is_text}
        self.queue.put_nowait(event)
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    async def send(self, message: Any) -> None:
        if self._is_discarding:
            raise ClientDisconnected
        await super().send(message)
        if self._backlog:
            # The handshake is complete, or the client's answer to a close frame is in the backlog.
            self._read_on()


def _is_utf8(data: bytes) -> bool:
    """Return whether data is UTF-8. Only a piece at a time is decoded."""
    decoder = getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(data), _SOCKET_BYTES):
            decoder.decode(data[at : at + _SOCKET_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
