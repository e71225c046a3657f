"""A connection to one socket of a kernel: ZMTP 3.0 over TCP, with the bounds that libzmq does not have.

libzmq bounds a frame and counts whole messages. Of a message whose frames never end it keeps all, as
soon as it is sent and whether anybody reads or not: code that owns the kernel's port could so fill the
memory of the service. Here a message is bounded as a whole, nobody reads ahead of who wants messages,
and what is too large is read past. The protocol: https://rfc.zeromq.org/spec/23/
"""

import asyncio
import contextlib
import struct
from dataclasses import dataclass
from typing import Final, Literal

from sessions.kernels.certificate_pin import CONTEXT, CertificatePin, presented
from sessions.kernels.errors import SupervisorFailed

_MESSAGE_BYTES: Final = 1 << 24
"""Of one message; a larger one is read past."""
_MESSAGE_FRAMES: Final = 1000
_ENDLESS_BYTES: Final = 1 << 28
"""A message is not read past beyond this: who sends it does not want to be understood."""
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
    """The other end has hung up, or does not speak the protocol."""


@dataclass(frozen=True)
class Received:
    """A message as it came: its frames, none if it was too large, and its size in bytes."""

    frames: list[bytes]
    size_bytes: int


class Channel:
    """Opens lazily, and again after it broke: see `open`."""

    def __init__(
        self, host: str, port: int, socket_type: SocketType, seal: CertificatePin | None = None
    ) -> None:
        """`seal`: it is TLS that carries it."""
        self._seal = seal
        self._host = host
        self._port = port
        self._type = socket_type
        self._reader = asyncio.StreamReader()
        self._writer: asyncio.StreamWriter | None = None
        self._receiving: asyncio.Task[Received] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is connected, as far as is known here."""
        return self._writer is not None and not self._reader.at_eof()

    async def open(self) -> None:
        """Connect, in place of an earlier connection.

        Raises:
            ChannelBroken: nobody listens there, or not with this protocol.
        """
        self.close()
        try:
            self._reader, self._writer = await asyncio.open_connection(
                self._host, self._port, limit=_BUFFER_BYTES, ssl=None if self._seal is None else CONTEXT
            )
            if self._seal is not None and presented(self._writer) != await self._seal.fingerprint():
                raise ChannelBroken("its certificate is somebody else's")
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
        flags, size = await self._head()
        if not flags & _COMMAND or size > _COMMAND_BYTES:
            raise ChannelBroken("no READY")
        await self._reader.readexactly(size)
        if self._type == b"SUB":
            self._writer.write(_frame(0, _SUBSCRIBE_TO_ALL))

    def send(self, frames: list[bytes]) -> None:
        """Send a message; into the void where the connection is broken."""
        if self._writer is not None:
            last = len(frames) - 1
            self._writer.write(
                b"".join(_frame(_MORE if at < last else 0, frame) for at, frame in enumerate(frames))
            )

    async def receive(self) -> Received:
        """The next message. Who is cancelled here leaves it to the next call.

        Raises:
            ChannelBroken: there will be none.
        """
        if self._receiving is None:
            self._receiving = asyncio.create_task(self._receive())
            self._receiving.add_done_callback(_look_at)
        received = await asyncio.shield(self._receiving)
        self._receiving = None
        return received

    async def _receive(self) -> Received:
        try:
            return await self._message()
        except (OSError, EOFError) as error:
            raise ChannelBroken(str(error)) from error

    async def _message(self) -> Received:
        frames: list[bytes] = []
        total = count = 0
        more = True
        while more:
            flags, size = await self._head()
            more = bool(flags & (_MORE | _COMMAND))
            total, count = total + size, count + 1
            if total > _ENDLESS_BYTES or count > _MESSAGE_FRAMES:
                self.close()
                raise ChannelBroken("a message without end")
            if flags & _COMMAND or total > _MESSAGE_BYTES:
                await self._read_past(size)
            else:
                frames.append(await self._reader.readexactly(size))
        return Received(frames if total <= _MESSAGE_BYTES else [], total)

    async def _head(self) -> tuple[int, int]:
        """Flags and length of the next frame."""
        flags, short = await self._reader.readexactly(2)
        if not flags & _LONG:
            return flags, short
        return flags, int.from_bytes(bytes([short]) + await self._reader.readexactly(7))

    async def _read_past(self, size: int) -> None:
        while size:
            data = await self._reader.read(min(size, _BUFFER_BYTES))
            if not data:
                raise EOFError("it ended inside a frame")
            size -= len(data)

    def close(self) -> None:
        """Hang up; a second call does nothing."""
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


def _look_at(receiving: "asyncio.Task[Received]") -> None:
    """Whoever asks next is told of a failure; nobody asking is no news."""
    if not receiving.cancelled():
        receiving.exception()
