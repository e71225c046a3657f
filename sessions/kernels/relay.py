"""A second connection to a kernel, for the messages of Jupyter clients."""

import asyncio
from dataclasses import dataclass
from typing import Final

from kernel_image import contract
from sessions.kernels.channel import Channel, Received
from sessions.kernels.connection import Connection
from sessions.kernels.messages import MessageCodec
from sessions.models import KernelMessage, PackedMessage

_OPEN_SEC: Final = 2.0


@dataclass(frozen=True)
class Relayed:
    """A message from the kernel and its size in bytes. The message is None if it was too large or invalid."""

    message: KernelMessage | None
    size_bytes: int


class Relay:
    """Shell and iopub channels of one kernel for messages of Jupyter clients.

    The kernel publishes each message to this connection and to the one of `KernelClient`, which runs cells.
    Messages that are not read stay in the kernel's memory.
    """

    def __init__(self, connection: Connection) -> None:
        self._codec = MessageCodec(connection.kernel_key)
        self._shell = Channel.of(connection, contract.SHELL_PORT, b"DEALER")
        self._iopub = Channel.of(connection, contract.IOPUB_PORT, b"SUB")

    async def open(self) -> None:
        """Connect. Raises `ChannelBroken` or `TimeoutError`."""
        async with asyncio.timeout(_OPEN_SEC):
            await self._iopub.open()
            await self._shell.open()

    def send(self, message: PackedMessage) -> bool:
        """Send a message to the kernel. Return whether it was accepted, as `Channel.send`."""
        return self._shell.send(self._codec.sign(message))

    async def drain(self) -> None:
        """Wait until the kernel reads. Raises `ChannelBroken`."""
        await self._shell.drain()

    @property
    def unsent_bytes(self) -> int:
        """Size of the messages that the kernel has not read yet, without those in the sockets' buffers."""
        return self._shell.unsent_bytes

    async def reply(self) -> Relayed:
        """Return the next message of the shell channel. Raises `ChannelBroken`."""
        return await self._read(await self._shell.receive())

    async def published(self) -> Relayed:
        """Return the next message of the iopub channel. Raises `ChannelBroken`."""
        return await self._read(await self._iopub.receive())

    async def _read(self, received: Received) -> Relayed:
        return Relayed(await self._codec.read(received), received.size_bytes)

    def close(self) -> None:
        """Close both channels."""
        self._shell.close()
        self._iopub.close()
