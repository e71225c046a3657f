"""Artifacts: the images that an execution displays and the files that it leaves, stored for the caller."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Final

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
from sessions.executions.limits import ArtifactLimits
from sessions.executions.result import OutputFile
from sessions.kernels.errors import SupervisorFailed
from sessions.models import ChangedFile, JsonObject, SkippedFile
from sessions.ports import Recorder, StoredFiles
from sessions.records import FileOrigin, StoredFile

_IMAGE_SUFFIXES: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/svg+xml": "svg",
}
_DOWNLOADS_AT_ONCE: Final = 4


class _OverWorkspaceSize(Exception):
    """The files of an execution have more bytes together than its workspace holds."""


class Artifacts:
    """Stores the images and files of one execution. A failure to store one is its reason to be skipped."""

    def __init__(
        self, files: StoredFiles, sandbox: Sandbox, recorder: Recorder, limits: ArtifactLimits
    ) -> None:
        self._files = files
        self._sandbox = sandbox
        self._recorder = recorder
        self._limits = limits
        self._images = 0
        self._room = limits.workspace_mib << 20
        """Bytes that the remaining files may have."""

    async def store_images(self, output: JsonObject) -> None:
        """Store each image in a display, and put the file id into the metadata of the image.

        Ids that user code put there are removed, because they would name files of other callers.
        """
        for described in output["metadata"].values():
            if isinstance(described, dict):
                described.pop("file_id", None)
        for mime, suffix in _IMAGE_SUFFIXES.items():
            data = _image_bytes(mime, output["data"].get(mime))
            if data is None or self._images >= self._limits.max_files:
                continue
            self._images += 1
            with self._recorder.timeline.during("store"):
                stored = await self._save(_once(data), f"output-{self._images}.{suffix}", "display", mime)
            if isinstance(stored, StoredFile):
                described = output["metadata"].get(mime)
                facts = described if isinstance(described, dict) else {}
                output["metadata"][mime] = {**facts, "file_id": stored.file_id}

    async def store_files(
        self, changed: Sequence[ChangedFile]
    ) -> tuple[tuple[OutputFile, ...], tuple[SkippedFile, ...]]:
        """Store the changed files of the workspace; return the stored ones and the skipped ones."""
        limit = self._limits.max_files
        places = asyncio.Semaphore(_DOWNLOADS_AT_ONCE)

        async def store(file: ChangedFile) -> OutputFile | SkippedFile:
            async with places:
                return await self._store(file)

        with self._recorder.timeline.during("store"):
            found = await asyncio.gather(*(store(file) for file in changed[:limit]))
        too_many = f"more than MAX_OUTPUT_FILES={limit} files"
        return (
            tuple(file for file in found if isinstance(file, OutputFile)),
            (
                *(file for file in found if isinstance(file, SkippedFile)),
                *(SkippedFile(file.path, file.size_bytes, too_many) for file in changed[limit:]),
            ),
        )

    async def _store(self, file: ChangedFile) -> OutputFile | SkippedFile:
        """Store one file. User code may have changed it meanwhile, so no error of it is the service's."""

        def skip(reason: str) -> SkippedFile:
            return SkippedFile(file.path, file.size_bytes, reason)

        if file.size_bytes > self._limits.max_file_bytes:
            return skip(str(FileTooLarge(self._limits.max_file_bytes)))
        try:
            self._take_room(file.size_bytes)
            async with self._sandbox.open_file(file.path) as chunks:
                content = self._within_room(chunks, file.size_bytes)
                stored = await self._save(content, file.path, "output", None)
        except SupervisorFailed as error:
            return skip(f"could not be read: {error.reason}")
        except (WorkspaceFileNotFound, InvalidPath):
            return skip("could not be read: it is gone, or no regular file any more")
        except _OverWorkspaceSize:
            return skip(f"with the others over WORKSPACE_SIZE_MB={self._limits.workspace_mib}")
        if isinstance(stored, str):
            return skip(stored)
        return OutputFile(file.path, stored.file_id, stored.size_bytes)

    def _take_room(self, size_bytes: int) -> None:
        """Count bytes of files. Files with holes or hard links can be larger than the workspace holds."""
        if size_bytes > self._room:
            raise _OverWorkspaceSize
        self._room -= size_bytes

    async def _within_room(self, chunks: AsyncIterable[bytes], counted: int) -> AsyncIterator[bytes]:
        """Yield the content of a file, of which `counted` bytes are counted already; count further ones."""
        async for chunk in chunks:
            self._take_room(max(0, len(chunk) - counted))
            counted = max(0, counted - len(chunk))
            yield chunk

    async def _save(
        self, chunks: AsyncIterable[bytes], name: str, origin: FileOrigin, media_type: str | None
    ) -> StoredFile | str:
        """Store a file; return the reason if that is not possible."""
        try:
            stored = await self._files.save(
                chunks,
                name,
                owner=self._recorder.owner,
                origin=origin,
                execution_id=self._recorder.execution_id,
                media_type=media_type,
            )
        except (FileTooLarge, StorageFull, StorageFailed, StorageQuotaExceeded, RegistryUnavailable) as error:
            return str(error)
        self._recorder.stored(origin, stored.size_bytes)
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
