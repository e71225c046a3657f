"""The bytes of stored files: uploads, and what executions made.

A file is written under ``incoming/``, synced, renamed to ``files/<file_id>`` and only then
registered: a row always has its bytes, and what a crash leaves behind has no row and is swept.
"""

import asyncio
import logging
import os
import re
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Self, TypeVar

from service import clock
from service.drafts import Draft
from service.errors import FileNotFound, FileTooLarge, StorageFailed, StorageUnavailable
from service.limits import StorageQuota
from service.media_types import guess_media_type
from service.records import FileOrigin, FilePage, StoredFile
from service.registry import Registry
from service.settle import settle

log = logging.getLogger(__name__)

T = TypeVar("T")

_FILE_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

# A block goes to the disk in one step on a thread: most files are a single one.
_WRITE_BLOCK = 1024 * 1024
_READ_BLOCK = 256 * 1024
_DISK_THREADS = 4

# How long what no row knows stays on disk: another process may be about to register it.
_GRACE_SEC = 15 * 60


@dataclass(frozen=True)
class Swept:
    """How many files one sweep removed."""

    expired: int
    orphans: int
    """On disk, but in no row."""
    unfinished: int
    """Left in ``incoming/`` by a process that died."""
    lost: int
    """Rows whose bytes were gone."""


class OpenFile:
    """A stored file, open for reading: deleting it meanwhile does not hurt. Close it after use."""

    def __init__(self, stored: StoredFile, file: FileIO, store: "FileStore") -> None:
        self.stored = stored
        self._file = file
        self._store = store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        self._file.close()

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from ``start`` up to, not including, ``end`` (None: all)."""
        end = self.stored.size_bytes if end is None else end
        while start < end:
            wanted = min(_READ_BLOCK, end - start)
            chunk = await self._store.on_thread(partial(self._read, wanted, start))
            if not chunk:
                raise OSError(f"file {self.stored.file_id} is shorter than its row says")
            yield chunk
            start += len(chunk)

    def _read(self, size: int, offset: int) -> bytes:
        # What was to be sent may have nobody left to send it to, who has closed it.
        return b"" if self._file.closed else os.pread(self._file.fileno(), size, offset)


class FileStore:
    """Files in one folder, with their names and dates in the registry.

    ``max_bytes`` is the most a file may have. ``ttl_sec`` is the seconds a file is kept; None or
    0 keeps it until it is deleted. Each file has an owner, and nobody else gets it; ``quota`` bounds
    what an owner may store.
    """

    def __init__(
        self,
        root: Path,
        registry: Registry,
        max_bytes: int,
        ttl_sec: int | None,
        quota: StorageQuota | None = None,
    ) -> None:
        self.max_bytes = max_bytes
        self._root = root
        self._files = root / "files"
        self._incoming = root / "incoming"
        self._registry = registry
        self._ttl_sec = ttl_sec
        self._quota = quota or StorageQuota()
        self._stored_files = self._stored_bytes = 0
        self._being_saved: set[str] = set()
        self._threads = ThreadPoolExecutor(_DISK_THREADS, thread_name_prefix="files")

    def prepare(self) -> None:
        """Make the folders. Raises ``StorageUnavailable``."""
        try:
            for folder in (self._root, self._files, self._incoming):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            trial = self._incoming / str(uuid.uuid4())
            trial.touch(mode=0o600)
            trial.unlink()
        except OSError as error:
            raise StorageUnavailable(self._root, error.strerror or str(error)) from error

    async def count_stored(self) -> None:
        """Begin to count from what is there, once before the first file."""
        stored = await self._registry.stored_bytes()
        self._quota.load(stored)
        self._stored_files = sum(files for files, _ in stored.values())
        self._stored_bytes = sum(size for _, size in stored.values())

    def stored(self) -> tuple[int, int]:
        """How many files there are, and their bytes, all owners' together."""
        return self._stored_files, self._stored_bytes

    def any(self) -> bool:
        """Whether any file is stored, known to the registry or not."""
        with os.scandir(self._files) as entries:
            return any(_FILE_ID.fullmatch(entry.name) for entry in entries)

    def close(self) -> None:
        """Let go of the threads; what they are doing is finished first."""
        self._threads.shutdown()

    async def save(
        self,
        chunks: AsyncIterable[bytes],
        filename: str,
        *,
        owner: str,
        origin: FileOrigin = "upload",
        execution_id: str | None = None,
        media_type: str | None = None,
    ) -> StoredFile:
        """Store what ``chunks`` yields. Whatever goes wrong on the way leaves nothing behind.

        Args:
            filename: any text without lone surrogates; it is never used as a path.
            media_type: None to tell it from the filename.

        Raises:
            FileTooLarge: there are more than ``max_bytes`` bytes.
            StorageQuotaExceeded: the owner may not store so much.
            StorageFull: the disk takes no more.
            StorageFailed: the disk fails.
            RegistryUnavailable: the file could not be registered.
        """
        file_id = str(uuid.uuid4())
        draft = Draft(self._incoming / file_id)
        self._being_saved.add(file_id)
        try:
            with self._quota.new_file(owner) as count:
                rest = await self._write(draft, chunks, count)
                await self.on_thread(partial(draft.publish, rest, self.path(file_id)))
                created_at = clock.now()
                stored = StoredFile(
                    file_id=file_id,
                    filename=filename,
                    size_bytes=draft.size_bytes,
                    sha256=draft.sha256,
                    media_type=media_type or guess_media_type(filename),
                    created_at=created_at,
                    expires_at=created_at + self._ttl_sec if self._ttl_sec else None,
                    origin=origin,
                    execution_id=execution_id,
                    owner=owner,
                )
                await self._register(stored)
                self._stored_files += 1
                self._stored_bytes += stored.size_bytes
                return stored
        except BaseException:
            # Done in place: who has been cancelled cannot wait for a thread.
            draft.discard()
            _unlink(self._files, {file_id})
            raise
        finally:
            self._being_saved.discard(file_id)

    async def get(self, file_id: str, owner: str) -> StoredFile:
        """The owner's file of this id. Raises ``FileNotFound``, also once it has expired."""
        if not _FILE_ID.fullmatch(file_id):
            raise FileNotFound(file_id)
        stored = await self._registry.get_file(file_id, owner)
        if stored.expires_at is not None and stored.expires_at <= clock.now():
            raise FileNotFound(file_id)
        return stored

    async def list_files(self, owner: str, limit: int | None = None, after: str | None = None) -> FilePage:
        """The owner's files that have not expired, oldest first; see ``Registry.list_files``."""
        return await self._registry.list_files(owner, limit, after, now=clock.now())

    async def open(self, file_id: str, owner: str) -> OpenFile:
        """Open a file of the owner's for reading. Raises ``FileNotFound``."""
        stored = await self.get(file_id, owner)
        try:
            file = await self.on_thread(partial(FileIO, self.path(file_id)))
        except FileNotFoundError:
            raise FileNotFound(file_id) from None
        except OSError as error:
            raise StorageFailed(error.strerror or str(error)) from error
        return OpenFile(stored, file, self)

    async def delete(self, file_id: str, owner: str) -> bool:
        """Delete a file of the owner's; False if there is none of this id, or it has expired."""
        try:
            await self.get(file_id, owner)
        except FileNotFound:
            return False
        return await self._remove(file_id)

    def path(self, file_id: str) -> Path:
        """Where the bytes of a file are. ``file_id`` must be one that the store gave out."""
        assert _FILE_ID.fullmatch(file_id)
        return self._files / file_id

    async def sweep(self, now: float) -> Swept:
        """Remove files that have expired at ``now``, and whatever crashes left behind."""
        expired = await self._registry.expired_files(now)
        for file_id in expired:
            await self._remove(file_id)

        # In this order, a file saved or deleted meanwhile looks neither lost nor an orphan.
        registered = await self._registry.all_file_ids()
        present = await self.on_thread(partial(_ids_and_dates, self._files))
        lost = [file_id for file_id in registered - present.keys() if await self._forget(file_id)]

        old = {file_id for file_id, date in present.items() if date < now - _GRACE_SEC}
        candidates = old - registered - self._being_saved
        orphans = candidates - await self._registry.known(candidates)
        dates = await self.on_thread(partial(_ids_and_dates, self._incoming))
        unfinished = {file_id for file_id, date in dates.items() if date < now - _GRACE_SEC}
        unfinished -= self._being_saved
        await self.on_thread(partial(_unlink, self._files, orphans))
        await self.on_thread(partial(_unlink, self._incoming, unfinished))
        return Swept(len(expired), len(orphans), len(unfinished), len(lost))

    async def on_thread(self, work: Callable[[], T]) -> T:
        """Do ``work`` on a thread for the disk. Who is cancelled still waits until it is done."""
        return await settle(asyncio.get_running_loop().run_in_executor(self._threads, work))

    async def _write(
        self, draft: Draft, chunks: AsyncIterable[bytes], count: Callable[[int], None]
    ) -> list[bytes]:
        """Write all full blocks, and return what remains: it saves small files a step."""
        received = held = 0
        block: list[bytes] = []
        async for chunk in chunks:
            received += len(chunk)
            held += len(chunk)
            if received > self.max_bytes:
                raise FileTooLarge(self.max_bytes)
            count(len(chunk))
            block.append(chunk)
            if held >= _WRITE_BLOCK:
                await self.on_thread(partial(draft.write, block))
                block, held = [], 0
        return block

    async def _register(self, stored: StoredFile) -> None:
        try:
            await settle(self._registry.add_file(stored))
        except asyncio.CancelledError:
            await settle(self._registry.delete_file(stored.file_id))
            raise

    async def _remove(self, file_id: str) -> bool:
        """Row first, so that nobody is given a row without bytes."""
        known = await self._forget(file_id)
        await self.on_thread(partial(_unlink, self._files, {file_id}))
        return known

    async def _forget(self, file_id: str) -> bool:
        stored = await self._registry.delete_file(file_id)
        if stored is not None:
            self._quota.forget(stored.owner, stored.size_bytes)
            self._stored_files -= 1
            self._stored_bytes -= stored.size_bytes
        return stored is not None


def _ids_and_dates(folder: Path) -> dict[str, float]:
    """Files of a folder that are named by an id, with when they were last written."""
    dates: dict[str, float] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if _FILE_ID.fullmatch(entry.name):
                try:
                    dates[entry.name] = entry.stat(follow_symlinks=False).st_mtime
                except FileNotFoundError:
                    continue
    return dates


def _unlink(folder: Path, file_ids: set[str]) -> None:
    for file_id in file_ids:
        try:
            (folder / file_id).unlink(missing_ok=True)
        except OSError as error:
            # Without a row it is nobody's: the next sweep tries again.
            log.warning("cannot remove %s: %s", folder / file_id, error.strerror)
