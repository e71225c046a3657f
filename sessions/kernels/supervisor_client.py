"""The calls to a container's supervisor. `kernel_image.supervisor.api.application` is the other side."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Final
from urllib.parse import quote

import aiohttp

from sessions.errors import InvalidPath, WorkspaceFileNotFound, WorkspaceFull
from sessions.kernels.cell_socket import CellSocket, Frames, read_frames
from sessions.kernels.certificate_pin import CertificatePin
from sessions.kernels.errors import NotClean, SupervisorFailed
from sessions.kernels.supervisor_http import (
    CHUNK_BYTES,
    SupervisorHttp,
    SupervisorRefused,
    aiohttp_errors,
    invalid_response_errors,
    parse_object,
    read_body,
)
from sessions.models import Budget, Container, JsonObject, WorkspaceEntry

_TRANSFER_SEC: Final = 600.0
"""Time limit for a file's upload or download."""
_SILENCE_SEC: Final = 30.0
"""Time limit between two pieces of a file."""
_LISTING_BYTES: Final = 1 << 26
"""Size limit of a list of files, and of a note."""
_POLL_SEC: Final = 0.02
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_FACT: Final = re.compile(r"[\w /.-]{1,100}", re.ASCII)
"""The form of a fact that a supervisor names if a used container differs from a new one."""
_STORAGE_FULL: Final = 507


class SupervisorClient:
    """The supervisor of one container. Every method raises `SupervisorFailed` if the call fails."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        container: Container,
        token: str,
        unthrottled: Callable[[], AbstractAsyncContextManager[None]],
        certificate_pin: CertificatePin | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            http: makes the connections.
            container: where the supervisor is.
            token: the secret that every request carries.
            unthrottled: lifts the container's CPU limit while its block runs.
            certificate_pin: set if the supervisor speaks TLS.
        """
        self._http = SupervisorHttp(http, container, token, unthrottled, certificate_pin)
        self._cells = CellSocket(self._http)

    async def wait_until_up(self, timeout_sec: float) -> None:
        """Return once the supervisor answers; docker-proxy accepts connections well before that."""
        deadline = asyncio.get_running_loop().time() + timeout_sec
        while True:
            try:
                await self._http.call("GET", "/status")
                return
            except SupervisorRefused:
                raise
            except SupervisorFailed:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(_POLL_SEC)

    async def memory_bytes(self) -> int:
        """Return how much memory the container's processes and files take now."""
        status = await self._http.call("GET", "/status")
        with invalid_response_errors():
            return int(status["memory_bytes"])

    async def failed_preloads(self) -> frozenset[str]:
        """Return the modules that were to be preloaded and could not be imported."""
        status = await self._http.call("GET", "/status")
        with invalid_response_errors():
            return frozenset(status.get("failed_preloads", ()))

    async def has_kernel(self) -> bool:
        """Return whether a kernel runs."""
        return (await self._http.call("GET", "/status")).get("kernel") is not None

    async def start_kernel(
        self, key: str, timeout_sec: float, preload: Sequence[str] = (), idle_bytes: int = 0
    ) -> None:
        """Start a kernel in place of any other, and wait until it listens.

        Args:
            key: the key that signs the kernel's messages.
            timeout_sec: time limit of the call.
            preload: modules to import before the container's first kernel is forked.
            idle_bytes: memory of this kernel and of later ones that does not count as the user's.
        """
        request = {"key": key, "preload": list(preload), "idle_bytes": idle_bytes}
        await self._http.call("POST", "/kernel", request, timeout_sec)

    async def scrub(self, key: str, timeout_sec: float) -> None:
        """Make the container as new, and start a kernel as `start_kernel` does.

        Raises:
            NotClean: the container has to be destroyed, as after every other error.
        """
        try:
            await self._http.call("POST", "/scrub", {"key": key}, timeout_sec)
        except SupervisorRefused as error:
            if error.status == _CONFLICT:
                raise NotClean(_differing_fact(error), error.quoted) from error
            raise

    async def interrupt(self, *, kill: bool = False) -> None:
        """Send SIGINT, or SIGKILL, to the running shell command, or without one to the kernel."""
        await self._http.stopping_call("POST", "/interrupt", {"kill": kill})

    async def kill_kernel(self) -> None:
        """Kill the kernel and every other process of the user. A running cell ends."""
        await self._http.stopping_call("DELETE", "/kernel")

    async def end_cell(self) -> None:
        """End the running cell. The stream of `begin_cell` then gives its last frame."""
        await self._http.call("POST", "/cell/settle")

    async def answer(self, value: str) -> None:
        """Answer the request for input of the running code."""
        await self._http.call("POST", "/cell/answer", {"value": value})

    async def renew_idle_cpu(self) -> None:
        """Give code that runs between cells its whole CPU budget again. Older containers have none."""
        try:
            await self._http.call("POST", "/idle")
        except SupervisorRefused as error:
            if error.status != _NOT_FOUND:
                raise

    async def renew_lease(self, seconds: float) -> None:
        """Have the container removed when this time has passed, unless the lease is renewed again."""
        await self._http.call("POST", "/lease", {"seconds": seconds})

    def begin_cell(
        self,
        cell_id: str,
        budget: Budget,
        *,
        note: str = "",
        command: str | None = None,
        is_message: bool = False,
    ) -> AbstractAsyncContextManager[Frames]:
        """Begin a cell, and give its frames. Raises `KernelEnded` if there is no kernel.

        Args:
            cell_id: the id of the cell, hexadecimal.
            budget: the limits of the cell.
            note: text that the supervisor keeps as long as it keeps the cell.
            command: a shell command to run instead of code in the kernel.
            is_message: whether the code runs because of a message that is sent to the kernel afterwards.
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
        return self._cells.begin(request)

    async def close(self) -> None:
        """Close the standing connection. The next cell opens a new one."""
        await self._cells.close()

    @asynccontextmanager
    async def follow_cell(self, cell_id: str) -> AsyncIterator[Frames]:
        """Give the frames of the last cell from the first one, whether it still runs or has ended."""
        async with self._http.request("GET", f"/cell/{cell_id}", timeout_sec=None) as response:
            yield read_frames(response.content)

    async def last_note(self) -> str | None:
        """Return the note of the last cell, or None if there was no cell."""
        try:
            async with self._http.request("GET", "/cell") as response:
                with invalid_response_errors():
                    return str(parse_object(await read_body(response, _LISTING_BYTES))["note"])
        except SupervisorRefused as error:
            if error.status != _NOT_FOUND:
                raise
            return None

    async def list_files(self) -> list[WorkspaceEntry]:
        """Return all regular files in the workspace."""
        async with self._http.request("GET", "/files") as response:
            listing = parse_object(await read_body(response, _LISTING_BYTES))
        with invalid_response_errors():
            return [
                WorkspaceEntry(str(item["path"]), int(item["size_bytes"]), float(item["modified_at"]))
                for item in listing["files"]
            ]

    async def put_file(self, path: str, content: AsyncIterator[bytes]) -> None:
        """Write a file. It is an output of a cell only if the code changes it.

        Raises:
            WorkspaceFull: the file does not fit.
            InvalidPath, WorkspaceFileNotFound: there can be no such file.
        """
        with _file_errors(path):
            async with self._http.request(
                "PUT", f"/files/{quote(path)}", data=content, timeout_sec=_TRANSFER_SEC
            ):
                pass

    async def delete_file(self, path: str) -> None:
        """Delete a file. Raises `WorkspaceFileNotFound` or `InvalidPath`."""
        with _file_errors(path):
            await self._http.call("DELETE", f"/files/{quote(path)}")

    async def rename_file(self, path: str, to: str) -> None:
        """Move a file to a path that is free.

        Raises:
            WorkspaceFileNotFound: there is no file at `path`.
            InvalidPath, WorkspaceFull: the file cannot be moved.
        """
        with _file_errors(path):
            await self._http.call("POST", "/rename", {"path": path, "to": to})

    @asynccontextmanager
    async def open_file(self, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the content of a file in chunks. Raises `WorkspaceFileNotFound` or `InvalidPath`."""
        with _file_errors(path):
            async with self._http.request(
                "GET", f"/files/{quote(path)}", timeout_sec=_TRANSFER_SEC, silence_sec=_SILENCE_SEC
            ) as response:
                yield _chunks(response.content)


@contextmanager
def _file_errors(path: str) -> Iterator[None]:
    """Turn a refused request for a file into an error that names the reason."""
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


async def _chunks(reader: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    with aiohttp_errors():
        async for chunk in reader.iter_chunked(CHUNK_BYTES):
            yield chunk


def _differing_fact(error: SupervisorRefused) -> str:
    """Return what is not as new in the container, or the summary of the error if the answer does not say."""
    with contextlib.suppress(SupervisorFailed):
        fact = parse_object(error.body.encode()).get("fact")
        if isinstance(fact, str) and _FACT.fullmatch(fact):
            return f"{error.summary}: {fact}"
    return error.summary
