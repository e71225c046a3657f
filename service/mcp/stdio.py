"""The command ``code-interpreter-mcp``: a running service's ``/mcp`` for clients that start a program.

It hands each message from standard input to the service and writes what comes back to standard output.
When the service was restarted meanwhile, it begins anew there as the client had begun.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import aiohttp

from service.errors import StartError
from service.settings import ConnectionSettings, load_connection_settings

Message = dict[str, Any]

_CONNECT_SEC: Final = 10.0
_SILENT_SEC: Final = 60.0
"""The service says something every fifteen seconds, if only that it is there."""
_LAST_SEC: Final = 0.5
"""What answers under way get when there is nothing more to ask."""
_LONGEST_EVENT: Final = 16 << 20
_CHUNK: Final = 1 << 16
_PARSE_ERROR: Final = -32700
_SERVICE_ERROR: Final = -32000
_INITIALIZED: Final = {"jsonrpc": "2.0", "method": "notifications/initialized"}
_SESSION: Final = "Mcp-Session-Id"


class Relay:
    """One client's connection to the service; ``write`` gets the lines for the client."""

    def __init__(self, http: aiohttp.ClientSession, url: str, write: Callable[[bytes], None]) -> None:
        self._http = http
        self._url = url
        self._write = write
        self._opening: Message | None = None
        self._headers = {"Accept": "application/json, text/event-stream"}
        self._following: set[asyncio.Task[None]] = set()

    async def pass_on(self, line: bytes) -> None:
        """Hand a message over, in order; its answer is followed in the background."""
        try:
            message = json.loads(line)
        except ValueError:
            self._refuse(None, "The line is not JSON", _PARSE_ERROR)
            return
        if not isinstance(message, dict):
            self._refuse(None, "The line is not one message", _PARSE_ERROR)
            return
        try:
            response = await self._post(message)
            if response.status == 404 and _SESSION in self._headers:
                response.release()
                await self._begin_anew()
                response = await self._post(message)
        except (aiohttp.ClientError, TimeoutError) as error:
            self._fail(message, error)
            return
        task = asyncio.create_task(self._follow(message, response))
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def _post(self, message: Message) -> aiohttp.ClientResponse:
        begins = message.get("method") == "initialize"
        if begins:
            self._opening = message
            self._headers.pop(_SESSION, None)
        response = await self._http.post(self._url, json=message, headers=self._headers)
        if begins and _SESSION in response.headers:
            self._headers[_SESSION] = response.headers[_SESSION]
        return response

    async def _begin_anew(self) -> None:
        """The service has forgotten the session, or was started again: do what the client did."""
        assert self._opening is not None
        for message in (self._opening, _INITIALIZED):
            async with await self._post(message) as response:
                await response.read()

    async def _follow(self, message: Message, response: aiohttp.ClientResponse) -> None:
        """Write what the service answers, as it comes."""
        try:
            async with response:
                if response.content_type == "text/event-stream":
                    async for line in response.content:
                        if line.startswith(b"data:"):
                            self._write(line.removeprefix(b"data:").strip() + b"\n")
                elif response.status != 202:
                    self._tell(message, response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._fail(message, error)

    def _tell(self, message: Message, status: int, body: bytes) -> None:
        """Answer a request with what is no stream: the protocol's error, or the service's."""
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if isinstance(answer, dict) and "jsonrpc" in answer:
            if "id" in message:
                self._write(json.dumps(answer | {"id": message["id"]}).encode() + b"\n")
            return
        detail = answer.get("detail") if isinstance(answer, dict) else None
        hint = " (CODE_INTERPRETER_API_KEY holds the key)" if status == 401 else ""
        self._refuse(message, f"The service answers {status}: {detail or 'no reason given'}{hint}")

    def _fail(self, message: Message, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        self._refuse(message, f"The code interpreter at {self._url} does not answer: {reason}. Does it run?")

    def _refuse(self, message: Message | None, reason: str, code: int = _SERVICE_ERROR) -> None:
        """Answer with an error. Who sent no request gets none; the log, which is stderr, does."""
        sys.stderr.write(f"{reason}\n")
        request_id = None if message is None else message.get("id")
        if message is None or ("id" in message and "method" in message):
            answer = {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": reason}}
            self._write(json.dumps(answer).encode() + b"\n")

    async def close(self) -> None:
        """End the session, and with it what still runs there."""
        if self._following:
            await asyncio.wait(self._following, timeout=_LAST_SEC)
        for task in self._following:
            task.cancel()
        if _SESSION in self._headers:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with self._http.delete(self._url, headers=self._headers):
                    pass


async def relay(settings: ConnectionSettings) -> None:
    """Relay until standard input ends or a signal comes."""
    headers = {}
    if settings.api_key is not None:
        headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
    timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT_SEC, sock_read=_SILENT_SEC, total=None)
    async with aiohttp.ClientSession(
        headers=headers, timeout=timeout, read_bufsize=_LONGEST_EVENT // 2
    ) as http:
        client = Relay(http, f"{settings.url.rstrip('/')}/mcp", _write)
        lines = _lines()
        try:
            while line := await lines.get():
                await client.pass_on(line)
        finally:
            await client.close()


def _write(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _lines() -> asyncio.Queue[bytes]:
    """The lines of standard input, at last an empty one; read by a thread, which nothing can stop.

    It reads from the descriptor: a file object would be locked when the program ends.
    """
    lines = asyncio.Queue[bytes](maxsize=16)
    loop = asyncio.get_running_loop()

    def hand_over(line: bytes) -> None:
        asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()

    def read() -> None:
        begun = b""
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            while chunk := os.read(sys.stdin.fileno(), _CHUNK):
                *whole, begun = (begun + chunk).split(b"\n")
                for line in whole:
                    if line.strip():
                        hand_over(line)
            if begun.strip():
                hand_over(begun)
            hand_over(b"")

    threading.Thread(target=read, daemon=True).start()
    return lines


async def _until_signal(settings: ConnectionSettings) -> None:
    task = asyncio.ensure_future(relay(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


def main() -> None:
    """Relay messages between standard input and output and the service. Exits with 2 on bad settings."""
    parser = argparse.ArgumentParser(
        prog="code-interpreter-mcp",
        description="Serves MCP over standard input and output, for a service that runs.",
        epilog="The service's API key, if it wants one, is read from CODE_INTERPRETER_API_KEY.",
    )
    parser.add_argument(
        "--url", help="where the service is; else CODE_INTERPRETER_URL, http://127.0.0.1:8000"
    )
    given = parser.parse_args()
    try:
        settings = load_connection_settings(given.url)
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    asyncio.run(_until_signal(settings))


if __name__ == "__main__":
    main()
