"""HTTP to a container's supervisor, see `kernel_image.supervisor.api.application` for the other end.

What comes back is not taken on trust: the user's code can't reach the supervisor, but a limit costs
nothing. Whatever is not as agreed is a `SupervisorFailed`, within bounded time and memory.
"""

import asyncio
import json
import math
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from kernel_image import contract
from sessions.errors import InvalidPath, SessionsError, WorkspaceFileNotFound, WorkspaceFull
from sessions.kernels.certificate_pin import CertificatePin
from sessions.kernels.errors import KernelEnded, NotClean, SupervisorFailed
from sessions.kernels.plain_json import parse
from sessions.models import Budget, Container, JsonObject, WorkspaceEntry

Frames = AsyncGenerator[tuple[int, bytes]]
"""(kind, payload), the last of kind `contract.FRAME_END`."""

_CALL_SEC: Final = 10.0
_STOPPING_SEC: Final = 1.0
_UNTHROTTLED_SEC: Final = 30.0
_TRANSFER_SEC: Final = 600.0
_CHUNK_BYTES: Final = 1 << 16
_CLOSE_SEC: Final = 1.5
_SILENCE_SEC: Final = 30.0
"""Between two pieces of a file."""
_FRAME_LIMIT: Final = 1 << 26
_LISTING_BYTES: Final = 1 << 26
_HEADER_BYTES: Final = struct.calcsize(contract.FRAME_HEADER)
_POLL_SEC: Final = 0.02
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_GONE: Final = 410
_STORAGE_FULL: Final = 507


class SupervisorRefused(SupervisorFailed):
    """The supervisor answered a request with an error. Only this module reads the HTTP status."""

    def __init__(self, call: str, status: int, quoted: str) -> None:
        super().__init__(f"{call}: {status}", quoted)
        self.status = status


@contextmanager
def _aiohttp_errors() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise SupervisorFailed("no answer in time") from error
    except aiohttp.WSMessageTypeError as error:
        raise SupervisorFailed("it hung up") from error
    except (
        aiohttp.ClientError,
        ConnectionError,
        struct.error,
        ValueError,
        asyncio.IncompleteReadError,
    ) as error:
        # Some of aiohttp's errors quote what they could not read.
        raise SupervisorFailed(type(error).__name__, quoted=f"{error!s:.200}") from error


@contextmanager
def _file_errors(path: str) -> Iterator[None]:
    """Turn the supervisor's refusal of a request for a file into an error that names the reason."""
    try:
        yield
    except SupervisorRefused as error:
        if error.status == _NOT_FOUND:
            raise WorkspaceFileNotFound(path) from error
        if error.status == _STORAGE_FULL:
            raise WorkspaceFull from error
        if 400 <= error.status < 500:
            raise InvalidPath(path, "can't be used: it is taken, or no regular file") from error
        raise


class SupervisorClient:
    """One container's supervisor."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        container: Container,
        token: str,
        unthrottled: Callable[[], AbstractAsyncContextManager[None]],
        seal: CertificatePin | None = None,
    ) -> None:
        """`unthrottled` lifts the container's CPU limit while one is inside; `seal`: it speaks TLS."""
        self._http = http
        self._unthrottled = unthrottled
        self._seal = seal
        self._fingerprint: aiohttp.Fingerprint | None = None
        scheme = "http" if seal is None else "https"
        self._url = f"{scheme}://{container.host}:{container.ports[contract.SUPERVISOR_PORT]}"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._cells: aiohttp.ClientWebSocketResponse | None = None
        self._has_unread_frames = False
        self._closing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        timeout_sec: float | None = _CALL_SEC,
        silence_sec: float | None = None,
        json_body: JsonObject | None = None,
        data: AsyncIterator[bytes] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=timeout_sec, sock_connect=_CALL_SEC, sock_read=silence_sec)
        certificate = await self._certificate()
        with _aiohttp_errors():
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
                    detail = (await response.content.read(2000)).decode("utf-8", "replace")
                    call = f"{method} /{path.split('/')[1]}"
                    raise SupervisorRefused(call, response.status, f"{path}: {detail}")
                yield response

    async def _certificate(self) -> aiohttp.Fingerprint | bool:
        """The only one that the token is told."""
        if self._seal is None:
            return True
        if self._fingerprint is None:
            # One object for good: connections are kept for who asks with the same.
            self._fingerprint = aiohttp.Fingerprint(await self._seal.fingerprint())
        return self._fingerprint

    async def _call(
        self, method: str, path: str, body: JsonObject | None = None, timeout_sec: float = _CALL_SEC
    ) -> JsonObject:
        async with self._request(method, path, json_body=body, timeout_sec=timeout_sec) as response:
            return _object(await _read(response, _CHUNK_BYTES))

    async def _stopping_call(self, method: str, path: str, body: JsonObject | None = None) -> None:
        """A call that ends what runs.

        Hundreds of processes that do nothing but fork can use up the container's CPU time inside the
        kernel of the machine, ahead of any priority. The supervisor is heard once the limit is lifted.
        """
        try:
            await self._call(method, path, body, _STOPPING_SEC)
        except SupervisorRefused:
            raise
        except SupervisorFailed as error:
            try:
                async with self._unthrottled():
                    await self._call(method, path, body, _UNTHROTTLED_SEC)
            except SupervisorFailed:
                raise
            except SessionsError as engine_error:
                raise error from engine_error

    async def wait_until_up(self, timeout_sec: float) -> None:
        """Return once the supervisor answers; docker-proxy accepts connections well before that."""
        deadline = asyncio.get_running_loop().time() + timeout_sec
        while True:
            try:
                await self._call("GET", "/status")
                return
            except SupervisorRefused:
                raise
            except SupervisorFailed:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(_POLL_SEC)

    async def memory_bytes(self) -> int:
        """What the container's processes and files hold now."""
        status = await self._call("GET", "/status")
        with _not_as_agreed():
            return int(status["memory_bytes"])

    async def has_kernel(self) -> bool:
        """Whether a kernel lives."""
        return (await self._call("GET", "/status")).get("kernel") is not None

    async def start_kernel(
        self, key: str, timeout_sec: float, preload: Sequence[str] = (), idle_bytes: int = 0
    ) -> None:
        """Fork a kernel in place of any other, and wait until it listens.

        For a container's first kernel `preload` names what it imports before. Of its memory and of
        that of later ones `idle_bytes` are not the user's.
        """
        request = {"key": key, "preload": list(preload), "idle_bytes": idle_bytes}
        await self._call("POST", "/kernel", request, timeout_sec)

    async def scrub(self, key: str, timeout_sec: float) -> None:
        """Make the container as new, and start a kernel as `start_kernel` does.

        Raises:
            NotClean: the container has to be destroyed. So it has after any other `SupervisorFailed`.
        """
        try:
            await self._call("POST", "/scrub", {"key": key}, timeout_sec)
        except SupervisorRefused as error:
            if error.status == _CONFLICT:
                raise NotClean(error.summary, error.quoted) from error
            raise

    async def interrupt(self, *, kill: bool = False) -> None:
        """Send SIGINT, or SIGKILL, to the kernel or to the shell command that is running."""
        await self._stopping_call("POST", "/interrupt", {"kill": kill})

    async def kill_kernel(self) -> None:
        """Kill the kernel with everything else of the user's; a running cell ends by that."""
        await self._stopping_call("DELETE", "/kernel")

    async def settle(self) -> None:
        """End the running cell; its last frame follows on the stream of `begin_cell`."""
        await self._call("POST", "/cell/settle")

    async def answer(self, value: str) -> None:
        """Answer what the code asks."""
        await self._call("POST", "/cell/answer", {"value": value})

    async def renew_lease(self, seconds: float) -> None:
        await self._call("POST", "/lease", {"seconds": seconds})

    @asynccontextmanager
    async def begin_cell(
        self,
        cell_id: str,
        budget: Budget,
        *,
        note: str = "",
        command: str | None = None,
        is_message: bool = False,
    ) -> AsyncIterator[Frames]:
        """Begin a cell, of the kernel, of a shell command or of a message that is yet to be sent.

        Gives its frames.
        """
        request: JsonObject = {
            "cell_id": cell_id,
            "output_bytes": budget.output_bytes,
            "cpu_seconds": budget.cpu_sec,
            "memory_bytes": budget.memory_bytes,
            "note": note,
        }
        if command is not None:
            request["command"] = command
        if is_message:
            request["is_message"] = True
        with _aiohttp_errors():
            channel = await self._cells_channel()
        self._has_unread_frames = True
        try:
            with _aiohttp_errors():
                await channel.send_str(json.dumps(request, ensure_ascii=False))
                self._look_for_refusal(_object((await channel.receive_str(timeout=_CALL_SEC)).encode()))
            async with aclosing(self._frames_of_cell(channel)) as frames:
                yield frames
        finally:
            if self._has_unread_frames:
                # They would be taken for those of the next cell. Closing waits for the other end.
                self._cells = None
                self._closing = asyncio.create_task(_hang_up(channel))

    def _look_for_refusal(self, answer: JsonObject) -> None:
        if "error" in answer:
            with _not_as_agreed():
                status, reason = int(answer["status"]), str(answer["error"])[:2000]
            self._has_unread_frames = False
            if status == _GONE:
                raise KernelEnded(f"cell: {status}", reason)
            raise SupervisorRefused("cell", status, reason)

    async def _frames_of_cell(self, channel: aiohttp.ClientWebSocketResponse) -> Frames:
        """The frames of the cell that was begun last."""
        with _aiohttp_errors():
            while self._has_unread_frames:
                message = memoryview(await channel.receive_bytes())
                while message:
                    kind, length = struct.unpack_from(contract.FRAME_HEADER, message)
                    payload, message = message[_HEADER_BYTES:][:length], message[_HEADER_BYTES + length :]
                    if len(payload) != length:
                        raise ValueError("a frame that is shorter than it says")
                    self._has_unread_frames = kind != contract.FRAME_END
                    yield kind, bytes(payload)
                    if kind == contract.FRAME_END:
                        return

    async def close(self) -> None:
        """Close the standing connection; another one is made when it is needed."""
        if self._cells is not None:
            await _hang_up(self._cells)
            self._cells = None

    async def _cells_channel(self) -> aiohttp.ClientWebSocketResponse:
        """The standing connection on which cells begin."""
        if self._cells is None or self._cells.closed:
            async with asyncio.timeout(_CALL_SEC):
                self._cells = await self._http.ws_connect(
                    f"{self._url}/cells",
                    headers=self._headers,
                    max_msg_size=_FRAME_LIMIT,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1),
                    ssl=await self._certificate(),
                )
        return self._cells

    @asynccontextmanager
    async def follow_cell(self, cell_id: str) -> AsyncIterator[Frames]:
        """The frames of the last cell from the first one, whether it still runs or not."""
        async with self._request("GET", f"/cell/{cell_id}", timeout_sec=None) as response:
            yield _frames(response.content)

    async def last_note(self) -> str | None:
        """The note of the cell that was begun last."""
        try:
            async with self._request("GET", "/cell") as response:
                with _not_as_agreed():
                    return str(_object(await _read(response, _LISTING_BYTES))["note"])
        except SupervisorRefused as error:
            if error.status != _NOT_FOUND:
                raise
            return None

    async def list_files(self) -> list[WorkspaceEntry]:
        """All regular files in the workspace."""
        async with self._request("GET", "/files") as response:
            listing = _object(await _read(response, _LISTING_BYTES))
        with _not_as_agreed():
            return [
                WorkspaceEntry(str(item["path"]), int(item["size_bytes"]), float(item["modified_at"]))
                for item in listing["files"]
            ]

    async def put_file(self, path: str, content: AsyncIterator[bytes]) -> None:
        """Write a file; it is an output of a cell only if the code changes it.

        Raises:
            WorkspaceFull, InvalidPath, WorkspaceFileNotFound: the file cannot be there.
        """
        address = f"/files/{quote(path)}"
        with _file_errors(path):
            async with self._request("PUT", address, data=content, timeout_sec=_TRANSFER_SEC):
                pass

    async def delete_file(self, path: str) -> None:
        """Delete a file. Raises `WorkspaceFileNotFound` or `InvalidPath`."""
        with _file_errors(path):
            await self._call("DELETE", f"/files/{quote(path)}")

    async def rename_file(self, path: str, to: str) -> None:
        """Move a file to a path that is free.

        Raises:
            WorkspaceFileNotFound: there is no file at `path`.
            InvalidPath, WorkspaceFull: it cannot be moved.
        """
        with _file_errors(path):
            await self._call("POST", "/rename", {"path": path, "to": to})

    @asynccontextmanager
    async def open_file(self, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read a file of the workspace in chunks. Raises `WorkspaceFileNotFound` or `InvalidPath`."""
        call = partial(self._request, timeout_sec=_TRANSFER_SEC, silence_sec=_SILENCE_SEC)
        with _file_errors(path):
            async with call("GET", f"/files/{quote(path)}") as response:
                yield _chunks(response.content)


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The whole body. Raises `SupervisorFailed`: it has more than `most` bytes."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > most:
            raise SupervisorFailed(f"an answer of more than {most} bytes")
    return bytes(body)


def _object(text: bytes) -> JsonObject:
    """A JSON object. Raises `SupervisorFailed`: it is none."""
    with _not_as_agreed():
        value: Any = parse(text, max_values=math.inf).value
        if not isinstance(value, dict):
            raise TypeError("no object")
        return value


@contextmanager
def _not_as_agreed() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise SupervisorFailed("an answer that is none", quoted=f"{error!r:.200}") from error


async def _hang_up(channel: aiohttp.ClientWebSocketResponse) -> None:
    """Close it, also where the other end talks on: aiohttp would wait for a pause."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SEC):
            await channel.close()


async def _chunks(reader: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    with _aiohttp_errors():
        async for chunk in reader.iter_chunked(_CHUNK_BYTES):
            yield chunk


async def _frames(reader: aiohttp.StreamReader) -> Frames:
    with _aiohttp_errors():
        while True:
            kind, length = struct.unpack(contract.FRAME_HEADER, await reader.readexactly(_HEADER_BYTES))
            if length > _FRAME_LIMIT:
                raise ValueError(f"a frame of {length} bytes")
            yield kind, await reader.readexactly(length)
            if kind == contract.FRAME_END:
                return
