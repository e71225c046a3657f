"""The kernel's ports, spoken to in TLS: PID 1 ends that, and passes on what it neither reads nor keeps."""

import contextlib
import ssl
from asyncio import gather
from typing import Final

from tornado.iostream import IOStream, StreamClosedError
from tornado.tcpclient import TCPClient
from tornado.tcpserver import TCPServer

from kernel_image import contract

_BUFFER_BYTES: Final = 1 << 16


class Relay(TCPServer):
    """Accepts TLS on a port of the contract, for the kernel's own behind it. See `listen`."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(ssl_options=context, read_chunk_size=_BUFFER_BYTES)
        self._inner_port = port + contract.INNER_OFFSET
        self.listen(port, "0.0.0.0")

    async def handle_stream(self, stream: IOStream, address: object) -> None:
        """Until either end hangs up."""
        try:
            inner = await TCPClient().connect("127.0.0.1", self._inner_port)
        except OSError:
            stream.close()
            return
        stream.set_nodelay(True)
        inner.set_nodelay(True)
        await gather(_pass_on(stream, inner), _pass_on(inner, stream))


async def _pass_on(source: IOStream, target: IOStream) -> None:
    """Who does not take it stops who sends it."""
    with contextlib.suppress(StreamClosedError):
        while True:
            await target.write(await source.read_bytes(_BUFFER_BYTES, partial=True))
    source.close()
    target.close()
