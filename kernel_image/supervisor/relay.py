"""TLS termination for the kernel's ports: PID 1 decrypts and forwards the bytes without reading them."""

import contextlib
import socket
import ssl
import struct
from asyncio import gather
from typing import Final

from tornado.iostream import IOStream, StreamClosedError
from tornado.tcpserver import TCPServer

from kernel_image import contract

_BUFFER_BYTES: Final = 1 << 16
_CLOSE_AT_ONCE: Final = struct.pack("ii", 1, 0)
"""A `struct linger` with which closing sends a reset."""


class TlsRelay(TCPServer):
    """Accepts TLS connections on a published port and forwards them to the kernel's internal port."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(ssl_options=context, read_chunk_size=_BUFFER_BYTES)
        self._inner_port = port + contract.INTERNAL_PORT_OFFSET
        self.listen(port, "0.0.0.0")

    async def handle_stream(self, stream: IOStream, address: object) -> None:
        """Forward in both directions until either side closes its connection. Called by tornado."""
        inner_socket = socket.socket()
        # Without it, closing leaves a connection in TIME_WAIT that looks like one of user code.
        inner_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_AT_ONCE)
        try:
            inner = await IOStream(inner_socket).connect(("127.0.0.1", self._inner_port))
        except OSError:
            stream.close()
            return
        stream.set_nodelay(True)
        inner.set_nodelay(True)
        await gather(_forward(stream, inner), _forward(inner, stream))


async def _forward(source: IOStream, target: IOStream) -> None:
    """Copy bytes until the source ends. A slow target blocks the source (back-pressure)."""
    with contextlib.suppress(StreamClosedError):
        while True:
            await target.write(await source.read_bytes(_BUFFER_BYTES, partial=True))
    source.close()
    target.close()
