"""A channel to a socket whose other side reads slowly or not at all."""

import asyncio
import contextlib

import pytest
import uvloop

from sessions.kernels.channel import Channel, ChannelBroken

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER"
LARGE = 1 << 20


class SlowPeer:
    """A ZMTP socket that completes the handshake and reads one byte each time that it is asked to."""

    async def __aenter__(self) -> "SlowPeer":
        self._accepted: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1024)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING + bytes([4, len(READY)]) + READY)
        await reader.readexactly(len(GREETING))
        self._writer = writer
        await self._accepted.put(reader)

    async def read(self, size: int) -> None:
        """Read so many bytes, one after the other."""
        reader = await self._accepted.get()
        for _ in range(size):
            await reader.readexactly(1)
        await self._accepted.put(reader)

    async def read_all(self) -> None:
        """Read everything, until cancelled."""
        reader = await self._accepted.get()
        while await reader.read(LARGE):
            pass

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        self._server.close()


async def test_channel_refuses_messages_that_the_other_side_does_not_read() -> None:
    """The bytes that wait in the process are bounded, also if single bytes are read."""
    async with SlowPeer() as peer:
        channel = Channel("127.0.0.1", peer.port, b"DEALER")
        await channel.open()
        accepted = 0
        for _ in range(100):
            accepted += channel.send([b"x" * LARGE])
            await peer.read(10)
            assert channel.unsent_bytes <= 2 * LARGE
        assert 1 <= accepted < 50
        channel.close()
        assert channel.unsent_bytes == 0
        assert not channel.send([b"x"])


async def test_drain_returns_when_the_other_side_reads() -> None:
    """Messages are accepted again afterwards."""
    async with SlowPeer() as peer:
        channel = Channel("127.0.0.1", peer.port, b"DEALER")
        await channel.open()
        sent = 0
        while channel.send([b"x" * LARGE]):
            sent += LARGE
            await asyncio.sleep(0)
        draining = asyncio.create_task(channel.drain())
        await asyncio.wait({draining}, timeout=0.05)
        assert not draining.done()
        reading = asyncio.create_task(peer.read_all())
        await draining
        assert channel.send([b"x"])
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        channel.close()


async def test_drain_fails_if_the_connection_breaks() -> None:
    """A caller does not wait for ever."""
    peer = SlowPeer()
    async with peer:
        channel = Channel("127.0.0.1", peer.port, b"DEALER")
        await channel.open()
        for _ in range(20):
            channel.send([b"x" * LARGE])
            await asyncio.sleep(0)
        await peer.read(1)
    with pytest.raises(ChannelBroken):
        await channel.drain()
    channel.close()


def test_channel_refuses_messages_after_the_connection_broke() -> None:
    """A message is dropped, also by the event loop of the service, whose transports raise an error."""

    async def send_to_closed() -> bool:
        async with SlowPeer() as peer:
            channel = Channel("127.0.0.1", peer.port, b"DEALER")
            await channel.open()
            await peer.read(1)
        with contextlib.suppress(ChannelBroken):
            await channel.receive()
        for _ in range(10):
            channel.send([b"x"])
            await asyncio.sleep(0.01)
        accepted = channel.send([b"x"])
        channel.close()
        return accepted

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert not runner.run(send_to_closed())
