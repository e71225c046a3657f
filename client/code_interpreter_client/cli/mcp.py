"""`code-interpreter mcp`: MCP over standard input and output, for clients that start a program."""

import asyncio
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Final

import click

from code_interpreter_client import configuration
from code_interpreter_client.cli.problems import Problem
from code_interpreter_client.mcp_relay import relay

_CHUNK_BYTES: Final = 1 << 16
_BAD_SETTINGS: Final = 2


@click.command()
@click.pass_obj
def mcp(url: str | None) -> None:
    """Serve MCP over standard input and output.

    Messages go to the service's /mcp, and its answers come back. The exit status is 2 if the address or
    the API key is not valid.
    """
    try:
        address, headers = str(configuration.service_url(url)), configuration.headers(None)
    except ValueError as error:
        raise Problem(str(error), _BAD_SETTINGS) from error
    asyncio.run(_relay_until_signal(address, headers))


async def _relay_until_signal(url: str, headers: dict[str, str]) -> None:
    task = asyncio.ensure_future(relay(url, headers, _input_lines(), _write_output))
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):  # Windows; there the end of the input ends the program
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


def _write_output(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _input_lines() -> asyncio.Queue[bytes]:
    """Return a queue of the lines of standard input; an empty line marks the end of the input.

    A daemon thread reads, because a blocking read cannot be cancelled. It reads from the file descriptor:
    the interpreter could not lock `sys.stdin` at its exit while the thread waits in a read of it.
    """
    lines = asyncio.Queue[bytes](maxsize=16)
    loop = asyncio.get_running_loop()

    def put(line: bytes) -> None:
        asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()

    def read() -> None:
        rest = b""
        with suppress(RuntimeError):  # the event loop is closed, so nothing takes the lines any more
            while chunk := os.read(sys.stdin.fileno(), _CHUNK_BYTES):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    if line.strip():
                        put(line)
            if rest.strip():
                put(rest)
            put(b"")

    threading.Thread(target=read, daemon=True).start()
    return lines
