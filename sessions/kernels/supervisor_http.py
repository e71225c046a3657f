"""HTTP requests to a container's supervisor: limits of time and size, TLS, and errors.

User code cannot reach the supervisor, but no response is trusted: the limits cost nothing. Every failure is a
`SupervisorFailed`, within bounded time and memory.
"""

import asyncio
import math
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final

import aiohttp

from kernel_image import contract
from sessions.errors import SessionsError
from sessions.kernels.certificate_pin import CertificatePin
from sessions.kernels.errors import SupervisorFailed
from sessions.kernels.plain_json import parse
from sessions.models import Container, JsonObject

CALL_SEC: Final = 10.0
"""Time limit of an ordinary call, and of making a connection."""
CHUNK_BYTES: Final = 1 << 16
FRAME_BYTES: Final = 1 << 26
"""Size limit of a frame of a cell."""
_STOPPING_SEC: Final = 1.0
_UNTHROTTLED_SEC: Final = 30.0
_ERROR_BYTES: Final = 2000


class SupervisorRefused(SupervisorFailed):
    """The supervisor answered a request with an error. Only `supervisor_client` reads the HTTP status."""

    def __init__(self, call: str, status: int, quoted: str, body: str = "") -> None:
        super().__init__(f"{call}: {status}", quoted)
        self.status = status
        self.body = body


class SupervisorHttp:
    """Makes HTTP requests to the supervisor of one container."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        container: Container,
        token: str,
        unthrottled: Callable[[], AbstractAsyncContextManager[None]],
        certificate_pin: CertificatePin | None,
    ) -> None:
        self._http = http
        self._unthrottled = unthrottled
        self._certificate_pin = certificate_pin
        self._fingerprint: aiohttp.Fingerprint | None = None
        scheme = "http" if certificate_pin is None else "https"
        self._url = f"{scheme}://{container.host}:{container.ports[contract.SUPERVISOR_PORT]}"
        self._headers = {"Authorization": f"Bearer {token}"}

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        timeout_sec: float | None = CALL_SEC,
        silence_sec: float | None = None,
        json_body: JsonObject | None = None,
        data: AsyncIterator[bytes] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, and give its response while the block runs.

        Args:
            method: the HTTP method.
            path: the path of the URL, quoted.
            timeout_sec: time limit of the whole request; None for no limit.
            silence_sec: time limit between two pieces of the response; None for no limit.
            json_body: a body that is sent as JSON.
            data: a body that is sent as it is.

        Raises:
            SupervisorRefused: the response is an error.
            SupervisorFailed: there is no response, or an invalid one.
        """
        timeout = aiohttp.ClientTimeout(total=timeout_sec, sock_connect=CALL_SEC, sock_read=silence_sec)
        certificate = await self._certificate()
        with aiohttp_errors():
            async with self._http.request(
                method,
                self._url + path,
                headers=self._headers,
                json=json_body,
                data=data,
                timeout=timeout,
                allow_redirects=False,
                auto_decompress=False,
                ssl=certificate,
            ) as response:
                if response.status >= 300:
                    detail = (await response.content.read(_ERROR_BYTES)).decode("utf-8", "replace")
                    call = f"{method} /{path.split('/')[1]}"
                    raise SupervisorRefused(call, response.status, f"{path}: {detail}", detail)
                yield response

    async def call(
        self, method: str, path: str, body: JsonObject | None = None, timeout_sec: float = CALL_SEC
    ) -> JsonObject:
        """Send a request with a JSON body, and return the JSON object of the response."""
        async with self.request(method, path, json_body=body, timeout_sec=timeout_sec) as response:
            return parse_object(await read_body(response, CHUNK_BYTES))

    async def stopping_call(self, method: str, path: str, body: JsonObject | None = None) -> None:
        """Make a call that ends running code, if necessary without the container's CPU limit.

        Hundreds of processes that do nothing but fork use up the container's CPU time, whatever their
        priority. The supervisor answers again when the limit is lifted.
        """
        try:
            await self.call(method, path, body, _STOPPING_SEC)
        except SupervisorRefused:
            raise
        except SupervisorFailed as error:
            try:
                async with self._unthrottled():
                    await self.call(method, path, body, _UNTHROTTLED_SEC)
            except SupervisorFailed:
                raise
            except SessionsError as engine_error:
                raise error from engine_error

    async def open_websocket(self, path: str) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket. Raises the errors of aiohttp: see `aiohttp_errors`."""
        async with asyncio.timeout(CALL_SEC):
            return await self._http.ws_connect(
                self._url + path,
                headers=self._headers,
                max_msg_size=FRAME_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=1),
                ssl=await self._certificate(),
            )

    async def _certificate(self) -> aiohttp.Fingerprint | bool:
        """Return the fingerprint of the only certificate to which the token is sent, or True without TLS."""
        if self._certificate_pin is None:
            return True
        if self._fingerprint is None:
            # aiohttp reuses a connection only for the same object.
            self._fingerprint = aiohttp.Fingerprint(await self._certificate_pin.fingerprint())
        return self._fingerprint


@contextmanager
def aiohttp_errors() -> Iterator[None]:
    """Turn the errors of aiohttp into `SupervisorFailed`."""
    try:
        yield
    except TimeoutError as error:
        raise SupervisorFailed("no answer in time") from error
    except aiohttp.WSMessageTypeError as error:
        raise SupervisorFailed("it closed the connection") from error
    except (
        aiohttp.ClientError,
        ConnectionError,
        struct.error,
        ValueError,
        asyncio.IncompleteReadError,
    ) as error:
        # Some errors of aiohttp quote the bytes that it could not read.
        raise SupervisorFailed(type(error).__name__, quoted=f"{error!s:.200}") from error


@contextmanager
def invalid_response_errors() -> Iterator[None]:
    """Turn the errors of reading a value of another type than agreed into `SupervisorFailed`."""
    try:
        yield
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise SupervisorFailed("it sent an invalid response", quoted=f"{error!r:.200}") from error


async def read_body(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """Return the whole body. Raises `SupervisorFailed` if it has more than `limit_bytes` bytes."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        body += chunk
        if len(body) > limit_bytes:
            raise SupervisorFailed(f"it sent a response of more than {limit_bytes} bytes")
    return bytes(body)


def parse_object(text: bytes) -> JsonObject:
    """Parse a JSON object. Raises `SupervisorFailed` if the text is anything else."""
    with invalid_response_errors():
        value: Any = parse(text, max_values=math.inf).value
        if not isinstance(value, dict):
            raise TypeError("not an object")
        return value
