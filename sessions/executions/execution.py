"""One run of code: its events on their way to the caller, its images and files stored."""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final, Literal

from service.files.store import FileStore
from service.routes.schemas.execute import ExecuteResult, ExecutionError, SkippedFile, WorkspaceFile
from service.settings import Settings
from service.telemetry.execution_log import ExecutionLog, ExecutionRecorder
from sessions.containers.sandbox import Sandbox
from sessions.errors import (
    FileTooLarge,
    InvalidPath,
    RegistryUnavailable,
    StorageFailed,
    StorageFull,
    StorageQuotaExceeded,
    WorkspaceFileNotFound,
)
from sessions.kernels.errors import SupervisorFailed
from sessions.models import (
    CellEvent,
    CellResult,
    ChangedFile,
    Display,
    InputRequest,
    JsonObject,
    Mark,
    OutputChunk,
)
from sessions.records import ExecutionRecord, FileOrigin, StoredFile

State = Literal["kept", "restarted", "lost"]
RunEvent = OutputChunk | Mark | Display | InputRequest | ExecuteResult
Conclude = Callable[[CellResult, ExecutionRecord], Awaitable[tuple[State, str]]]
"""Sees to the kernel, and to the row, after a cell; returns what became of the state, and why."""

_IMAGE_SUFFIXES: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/svg+xml": "svg",
}
_DOWNLOADS_AT_ONCE: Final = 4


class Stores:
    """Where a run puts what it makes."""

    def __init__(self, settings: Settings, files: FileStore, executions: ExecutionLog) -> None:
        self.settings = settings
        self.files = files
        self.executions = executions


class _NoRoom(Exception):
    """The files of a run are more bytes than its workspace has."""


class Execution:
    """One execution that has a kernel. Iterate `events`, or `close` it unused."""

    def __init__(
        self,
        stores: Stores,
        sandbox: Sandbox,
        events: AsyncGenerator[CellEvent],
        lease: AsyncExitStack,
        conclude: Conclude,
        entry: ExecutionRecorder,
        cell_id: str | None = None,
    ) -> None:
        self.entry = entry
        self.execution_id = entry.execution_id
        self._stores = stores
        self._sandbox = sandbox
        self._events = events
        self._conclude = conclude
        self._cell_id = cell_id
        self._lease = lease
        self.record: ExecutionRecord
        """The row about it, once it has ended: for the caller to write."""
        self.reply: JsonObject = {}
        """What the kernel replied, once it has, believed in nothing."""
        self._images = 0
        self._room = 0
        """Bytes that its files may still have."""

    async def close(self) -> None:
        """Give the kernel back; also after the events have ended, when it does nothing."""
        self.entry.cancelled()
        await self._lease.aclose()

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Text and rich outputs as they come, then the result."""
        async with self._lease:
            try:
                async for event in self._events:
                    if isinstance(event, Display):
                        await self._store_images(event.output)
                        yield event
                    elif isinstance(event, CellResult):
                        yield await self._finish(event)
                    else:
                        yield event
            except BaseException as error:
                # A session's cell goes on where only this life of the service ends.
                if isinstance(error, Exception) or self._cell_id is None:
                    self.entry.broke(error)
                raise

    async def _store_images(self, output: JsonObject) -> None:
        """Give each image in `output` a file id, next to what its metadata says already.

        Ids that the code gives are taken out: they would be somebody else's files.
        """
        for described in output["metadata"].values():
            if isinstance(described, dict):
                described.pop("file_id", None)
        for mime, suffix in _IMAGE_SUFFIXES.items():
            data = _image_bytes(mime, output["data"].get(mime))
            if data is None or self._images >= self._stores.settings.execution.max_output_files:
                continue
            self._images += 1
            with self.entry.timeline.during("store"):
                stored = await self._save(_once(data), f"output-{self._images}.{suffix}", "display", mime)
            if isinstance(stored, StoredFile):
                described = output["metadata"].get(mime)
                facts = described if isinstance(described, dict) else {}
                output["metadata"][mime] = {**facts, "file_id": stored.file_id}

    async def _finish(self, result: CellResult) -> ExecuteResult:
        self.entry.ran(result)
        self.reply = result.reply
        limit = self._stores.settings.execution.max_output_files
        places = asyncio.Semaphore(_DOWNLOADS_AT_ONCE)

        async def fetch(file: ChangedFile) -> WorkspaceFile | SkippedFile:
            async with places:
                return await self._fetch(file)

        self._room = self._stores.settings.containers.workspace_bytes
        with self.entry.timeline.during("store"):
            fetched = await asyncio.gather(*(fetch(file) for file in result.changed[:limit]))
        skipped = [SkippedFile(path=s.path, size_bytes=s.size_bytes, reason=s.reason) for s in result.skipped]
        skipped += [file for file in fetched if isinstance(file, SkippedFile)]
        too_many = f"more than MAX_OUTPUT_FILES={limit} files"
        skipped += [
            SkippedFile(path=file.path, size_bytes=file.size_bytes, reason=too_many)
            for file in result.changed[limit:]
        ]
        files = [file for file in fetched if isinstance(file, WorkspaceFile)]
        self.entry.files_out, self.entry.files_out_bytes = len(files), sum(file.size_bytes for file in files)
        self.record = self.entry.ended(result)
        state, state_reason = await self._conclude(result, self.record)
        error = result.error
        return ExecuteResult(
            exit_code=result.exit_code,
            timed_out=result.timed_out,
            duration_ms=result.duration_ms,
            files=files,
            outputs=list(result.outputs),
            error=error
            and ExecutionError(name=error.name, value=error.value, traceback=list(error.traceback)),
            state=state,
            state_reason=state_reason,
            execution_count=result.execution_count,
            cell_id=self._cell_id,
            execution_id=self.execution_id,
            truncated=list(result.truncated),
            skipped_files=skipped,
        )

    async def _fetch(self, file: ChangedFile) -> WorkspaceFile | SkippedFile:
        """Store one file of the workspace. The code may have changed it since: no failure is ours."""

        def skip(reason: str) -> SkippedFile:
            return SkippedFile(path=file.path, size_bytes=file.size_bytes, reason=reason)

        if file.size_bytes > self._stores.settings.storage.max_file_bytes:
            return skip(str(FileTooLarge(self._stores.settings.storage.max_file_bytes)))
        try:
            self._take_room(file.size_bytes)
            async with self._sandbox.open_file(file.path) as chunks:
                content = self._within_room(chunks, file.size_bytes)
                stored = await self._save(content, file.path, "output", None)
        except SupervisorFailed as error:
            return skip(f"could not be read: {error.reason}")
        except (WorkspaceFileNotFound, InvalidPath):
            return skip("could not be read: it is gone, or no regular file any more")
        except _NoRoom:
            return skip(
                f"with the others over WORKSPACE_SIZE_MB={self._stores.settings.containers.workspace_size_mb}"
            )
        if isinstance(stored, str):
            return skip(stored)
        return WorkspaceFile(path=file.path, file_id=stored.file_id, size_bytes=stored.size_bytes)

    def _take_room(self, size_bytes: int) -> None:
        """Files with holes, or with many names, would be more here than the workspace can hold."""
        if size_bytes > self._room:
            raise _NoRoom
        self._room -= size_bytes

    async def _within_room(self, chunks: AsyncIterable[bytes], taken: int) -> AsyncIterator[bytes]:
        """The content of a file; what it has grown by since takes room as well."""
        async for chunk in chunks:
            self._take_room(max(0, len(chunk) - taken))
            taken = max(0, taken - len(chunk))
            yield chunk

    async def _save(
        self, chunks: AsyncIterable[bytes], name: str, origin: FileOrigin, media_type: str | None
    ) -> StoredFile | str:
        """Store a file; if that can't be, the reason why."""
        try:
            stored = await self._stores.files.save(
                chunks,
                name,
                owner=self.entry.owner,
                origin=origin,
                execution_id=self.execution_id,
                media_type=media_type,
            )
        except (FileTooLarge, StorageFull, StorageFailed, StorageQuotaExceeded, RegistryUnavailable) as error:
            return str(error)
        self._stores.executions.metrics.file_stored(origin, stored.size_bytes)
        return stored


def _image_bytes(mime: str, value: object) -> bytes | None:
    if not isinstance(value, str):
        return None
    if mime == "image/svg+xml":
        return value.encode()
    try:
        return base64.b64decode(value)
    except (binascii.Error, ValueError):
        return None


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
