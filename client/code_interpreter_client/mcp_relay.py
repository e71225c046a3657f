"""Relay of MCP messages from a program's standard input to the service's `/mcp`, and back."""

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import httpx
from httpx_sse import EventSource

from code_interpreter_client import configuration

Message = dict[str, Any]

_CONNECT_SEC: Final = 10.0
_SILENCE_SEC: Final = 60.0
"""The service sends a comment every fifteen seconds, so a longer silence means that it is gone."""
_LAST_ANSWERS_SEC: Final = 0.5
"""How long requests that are still unanswered at the end of the input get."""
_PARSE_ERROR: Final = -32700
_SERVICE_ERROR: Final = -32000
_INITIALIZED: Final = {"jsonrpc": "2.0", "method": "notifications/initialized"}
_SESSION: Final = "Mcp-Session-Id"


class Relay:
    """One MCP client's conversation with the service at `url`.

    Args:
        http: sends the requests; the API key is among its headers.
        url: the service's MCP endpoint.
        write: is called with each line for the client, a JSON-RPC message.
    """

    def __init__(self, http: httpx.AsyncClient, url: str, write: Callable[[bytes], None]) -> None:
        self._http = http
        self._url = url
        self._write = write
        self._opening: Message | None = None
        self._headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        self._following: set[asyncio.Task[None]] = set()

    async def send(self, line: bytes) -> None:
        """Send one line of the client to the service; the answer is written in the background.

        Errors are answered as JSON-RPC errors, never raised.
        """
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
            if response.status_code == 404 and _SESSION in self._headers:
                await response.aclose()
                await self._open_again()
                response = await self._post(message)
        except httpx.RequestError as error:
            self._report_failure(message, error)
            return
        task = asyncio.create_task(self._follow(message, response))
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def _post(self, message: Message) -> httpx.Response:
        opens_session = message.get("method") == "initialize"
        if opens_session:
            self._opening = message
            self._headers.pop(_SESSION, None)
        # httpx's own encoder refuses NaN and lone surrogates, which JSON from a client may contain.
        request = self._http.build_request(
            "POST", self._url, content=json.dumps(message), headers=self._headers
        )
        response = await self._http.send(request, stream=True)
        if opens_session and _SESSION in response.headers:
            self._headers[_SESSION] = response.headers[_SESSION]
        return response

    async def _open_again(self) -> None:
        """Repeat the client's opening, because the service has lost the session, as after a restart."""
        assert self._opening is not None
        for message in (self._opening, _INITIALIZED):
            response = await self._post(message)
            await response.aread()

    async def _follow(self, message: Message, response: httpx.Response) -> None:
        """Write the service's answer to a message as it arrives."""
        try:
            if response.headers.get("Content-Type", "").startswith("text/event-stream"):
                async for event in EventSource(response).aiter_sse():
                    if event.data:
                        self._write(event.data.encode() + b"\n")
            elif response.status_code != httpx.codes.ACCEPTED:
                self._write_answer(message, response.status_code, await response.aread())
        except httpx.RequestError as error:
            self._report_failure(message, error)
        finally:
            await response.aclose()

    def _write_answer(self, message: Message, status: int, body: bytes) -> None:
        """Write an answer that is not a stream: an error of the protocol, or one of the service."""
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if isinstance(answer, dict) and "jsonrpc" in answer:
            if "id" in message:
                self._write(json.dumps(answer | {"id": message["id"]}).encode() + b"\n")
            return
        detail = answer.get("detail") if isinstance(answer, dict) else None
        hint = f" (set the API key in {configuration.KEY_VARIABLE})" if status == 401 else ""
        self._refuse(message, f"The service answers {status}: {detail or 'no reason given'}{hint}")

    def _report_failure(self, message: Message, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        sentence = f"The code interpreter at {self._url} does not answer: {reason}. Is it running?"
        self._refuse(message, sentence)

    def _refuse(self, message: Message | None, reason: str, code: int = _SERVICE_ERROR) -> None:
        """Log `reason` on stderr, and answer with an error if the client waits for an answer."""
        sys.stderr.write(f"{reason}\n")
        request_id = None if message is None else message.get("id")
        if message is None or ("id" in message and "method" in message):
            answer = {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": reason}}
            self._write(json.dumps(answer).encode() + b"\n")

    async def close(self) -> None:
        """End the session of the service, and with it the code that still runs there."""
        if self._following:
            await asyncio.wait(self._following, timeout=_LAST_ANSWERS_SEC)
        for task in self._following:
            task.cancel()
        if _SESSION in self._headers:
            with suppress(httpx.RequestError):
                await self._http.delete(self._url, headers=self._headers)


async def relay(
    url: str, headers: dict[str, str], lines: asyncio.Queue[bytes], write: Callable[[bytes], None]
) -> None:
    """Relay the client's lines until an empty one, then end the session; also when cancelled."""
    timeout = httpx.Timeout(_SILENCE_SEC, connect=_CONNECT_SEC, pool=None)
    async with httpx.AsyncClient(headers=headers, timeout=timeout) as http:
        client = Relay(http, f"{url.rstrip('/')}/mcp", write)
        try:
            while line := await lines.get():
                await client.send(line)
        finally:
            await client.close()
