"""The kernel's ports, spoken to in TLS: PID 1 ends that, and passes on what it neither reads nor keeps."""

import asyncio
import contextlib
import ssl

from kernel_image import contract

_BUFFER_BYTES = 1 << 16


async def relay(port: int, context: ssl.SSLContext) -> asyncio.Server:
    """Accept TLS on a port of the contract, for the kernel's own behind it."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner = await asyncio.open_connection(
                "127.0.0.1", port + contract.INNER_OFFSET, limit=_BUFFER_BYTES
            )
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pass_on(reader, inner[1]), _pass_on(inner[0], writer))

    return await asyncio.start_server(accept, "0.0.0.0", port, ssl=context, limit=_BUFFER_BYTES)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until either end hangs up; who does not take it stops who sends it."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_BUFFER_BYTES):
            writer.write(data)
            await writer.drain()
    # What is written still leaves.
    writer.close()
