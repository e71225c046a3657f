"""A connection to one socket of a kernel: ZMTP 3.0 over TCP, with the bounds that libzmq does not have.

libzmq bounds the size of a frame, and the number of whole messages. It keeps all frames of a message, even if
the frames never end. User code that owns the kernel's port could fill the service's memory that way. Here the
size of a message is bounded, nothing is read before a caller wants a message, and messages that are too large
are skipped. The protocol: https://rfc.zeromq.org/spec/23/
"""

import asyncio
import contextlib
import struct
from dataclasses import dataclass
from typing import Final, Literal

from sessions.kernels.certificate_pin import CONTEXT, CertificatePin, presented
from sessions.kernels.connection import Connection
from sessions.kernels.errors import SupervisorFailed

_MESSAGE_BYTES: Final = 1 << 24
"""Size limit of a message. A larger one is skipped."""
_MESSAGE_FRAMES: Final = 1000
_SKIPPED_BYTES: Final = 1 << 28
"""A message that is larger than this is not skipped: the connection is closed."""
_UNSENT_BYTES: Final = 1 << 20
"""No message is sent while so much data waits for the other side to read."""
_COMMAND_BYTES: Final = 1 << 12
_BUFFER_BYTES: Final = 1 << 16
_MORE: Final = 1
_LONG: Final = 2
_COMMAND: Final = 4
_SHORT_BYTES: Final = 255
_GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_SIGNATURE: Final = slice(0, 10, 9)
_VERSION_AT: Final = 10
_SUBSCRIBE_TO_ALL: Final = b"\x01"

SocketType = Literal[b"DEALER", b"SUB"]


class ChannelBroken(Exception):
    """The connection to the kernel's socket is closed, or the other side does not speak ZMTP."""


@dataclass(frozen=True)
class Received:
    """A message as it arrived: its frames, none if it was too large, and its size in bytes."""

    frames: list[bytes]
    size_bytes: int


class Channel:
    """A connection to a socket. `open` connects it, also after it broke."""

    def __init__(
        self, host: str, port: int, socket_type: SocketType, certificate_pin: CertificatePin | None = None
    ) -> None:
        """The socket speaks TLS if `certificate_pin` is given."""
        self._certificate_pin = certificate_pin
        self._host = host
        self._port = port
        self._type = socket_type
        self._reader = asyncio.StreamReader()
        self._writer: asyncio.StreamWriter | None = None
        self._receiving: asyncio.Task[Received] | None = None

    @classmethod
    def of(cls, connection: Connection, port: int, socket_type: SocketType) -> "Channel":
        """Return a channel to a port inside the container. It is not open yet."""
        container = connection.container
        return cls(container.host, container.ports[port], socket_type, connection.certificate_pin)

    @property
    def is_open(self) -> bool:
        """Whether the channel is connected. A connection that just broke may still count as open."""
        return self._writer is not None and not self._reader.at_eof()

    async def open(self) -> None:
        """Connect, in place of an earlier connection.

        Raises:
            ChannelBroken: no socket listens there, or it does not speak ZMTP, or its certificate is wrong.
        """
        self.close()
        pin = self._certificate_pin
        try:
            self._reader, self._writer = await asyncio.open_connection(
                self._host, self._port, limit=_BUFFER_BYTES, ssl=None if pin is None else CONTEXT
            )
            if pin is not None and presented(self._writer) != await pin.fingerprint():
                raise ChannelBroken("the certificate is not the container's")
            await self._shake_hands()
        except (OSError, EOFError, ChannelBroken, SupervisorFailed) as error:
            self.close()
            raise ChannelBroken(str(error)) from error
        except BaseException:
            self.close()
            raise

    async def _shake_hands(self) -> None:
        assert self._writer is not None
        ready = b"\x05READY\x0bSocket-Type" + struct.pack("!I", len(self._type)) + self._type
        self._writer.write(_GREETING + _frame(_COMMAND, ready))
        greeting = await self._reader.readexactly(len(_GREETING))
        if greeting[_SIGNATURE] != b"\xff\x7f" or greeting[_VERSION_AT] < 3:
            raise ChannelBroken("not a ZMTP 3 peer")
        flags, size = await self._read_head()
        if not flags & _COMMAND or size > _COMMAND_BYTES:
            raise ChannelBroken("no READY")
        await self._reader.readexactly(size)
        if self._type == b"SUB":
            self._writer.write(_frame(0, _SUBSCRIBE_TO_ALL))

    def send(self, frames: list[bytes]) -> bool:
        """Send a message, if the other side reads.

        A message is dropped if the connection is broken, or if the other side has not read the messages
        before it. Return whether it was accepted; the connection may break before it is sent.
        """
        if self._writer is None or self._writer.transport.is_closing() or self.unsent_bytes >= _UNSENT_BYTES:
            return False
        last = len(frames) - 1
        self._writer.write(
            b"".join(_frame(_MORE if at < last else 0, frame) for at, frame in enumerate(frames))
        )
        return True

    async def drain(self) -> None:
        """Wait until the other side has read most of the data. Raises `ChannelBroken`."""
        if self._writer is not None:
            try:
                await self._writer.drain()
            except OSError as error:
                raise ChannelBroken(str(error)) from error

    @property
    def unsent_bytes(self) -> int:
        """Size of the data that waits in this process until the other side reads."""
        return 0 if self._writer is None else self._writer.transport.get_write_buffer_size()

    async def receive(self) -> Received:
        """Return the next message. If the call is cancelled, the next call returns that message.

        Raises:
            ChannelBroken: there will be no more messages.
        """
        if self._receiving is None:
            self._receiving = asyncio.create_task(self._receive())
            self._receiving.add_done_callback(_retrieve_error)
        received = await asyncio.shield(self._receiving)
        self._receiving = None
        return received

    async def _receive(self) -> Received:
        try:
            return await self._read_message()
        except (OSError, EOFError) as error:
            raise ChannelBroken(str(error)) from error

    async def _read_message(self) -> Received:
        frames: list[bytes] = []
        total = count = 0
        more = True
        while more:
            flags, size = await self._read_head()
            more = bool(flags & (_MORE | _COMMAND))
            total, count = total + size, count + 1
            if total > _SKIPPED_BYTES or count > _MESSAGE_FRAMES:
                self.close()
                raise ChannelBroken("a message does not end")
            if flags & _COMMAND or total > _MESSAGE_BYTES:
                await self._skip(size)
            else:
                frames.append(await self._reader.readexactly(size))
        return Received(frames if total <= _MESSAGE_BYTES else [], total)

    async def _read_head(self) -> tuple[int, int]:
        """Read the flags and the length of the next frame."""
        flags, short = await self._reader.readexactly(2)
        if not flags & _LONG:
            return flags, short
        return flags, int.from_bytes(bytes([short]) + await self._reader.readexactly(7))

    async def _skip(self, size: int) -> None:
        while size:
            data = await self._reader.read(min(size, _BUFFER_BYTES))
            if not data:
                raise EOFError("the connection was closed inside a frame")
            size -= len(data)

    def close(self) -> None:
        """Close the connection; do nothing if there is none."""
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None
        if self._writer is not None:
            with contextlib.suppress(RuntimeError):  # the event loop may be closed by now
                self._writer.transport.abort()
            self._writer = None


def _frame(flags: int, content: bytes) -> bytes:
    size = len(content)
    if size > _SHORT_BYTES:
        return struct.pack("!BQ", flags | _LONG, size) + content
    return bytes([flags, size]) + content


def _retrieve_error(receiving: "asyncio.Task[Received]") -> None:
    """Retrieve the error of a finished task. asyncio would log it if no call of `receive` follows."""
    if not receiving.cancelled():
        receiving.exception()
