"""Stored files in a folder.

A file is written under ``incoming/``, synced, and renamed to ``files/<file_id>``.
"""

import asyncio
import errno
import hashlib
import logging
import os
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from service.files.errors import StorageUnavailable
from service.files.storage import FILE_ID
from sessions.errors import StorageFailed, StorageFull
from sessions.tasks import finish

log = logging.getLogger(__name__)

T = TypeVar("T")

_READ_BLOCK: Final = 256 * 1024
_THREADS: Final = 4

# EFBIG: a limit of the file system or of the process, which is full for this file too.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def make_folder(folder: Path) -> None:
    """Make a private folder, if it is not there. Raises ``StorageUnavailable``."""
    try:
        _make(folder)
    except OSError as error:
        raise StorageUnavailable(folder, error.strerror or str(error)) from error


class Disk:
    """`service.files.storage.Storage` in the folder ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files = root / "files"
        self._incoming = root / "incoming"
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="files")

    @property
    def place(self) -> str:
        return str(self._root)

    @property
    def listing_sec(self) -> float:
        return 0.0

    @property
    def gives_links(self) -> bool:
        return False

    async def prepare(self) -> None:
        try:
            for folder in (self._root, self._files, self._incoming):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            trial = self._incoming / str(uuid.uuid4())
            trial.touch(mode=0o600)
            trial.unlink()
        except OSError as error:
            raise StorageUnavailable(self._root, error.strerror or str(error)) from error

    async def claim(self, registry_id: str) -> None:
        """A lock on the folder has done that: see `service.files.storage_lock`."""

    async def any(self) -> bool:
        with os.scandir(self._files) as entries:
            return any(FILE_ID.fullmatch(entry.name) for entry in entries)

    def draft(self, file_id: str, filename: str) -> "DiskDraft":
        return DiskDraft(self._incoming / file_id, self.path(file_id), self.on_thread)

    async def open(self, file_id: str) -> "DiskContent":
        try:
            file = await self.on_thread(partial(FileIO, self.path(file_id)))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageFailed(error.strerror or str(error)) from error
        return DiskContent(file, self.on_thread)

    async def link(self, file_id: str) -> str:
        raise NotImplementedError

    async def remove(self, file_ids: Collection[str]) -> None:
        await self.on_thread(partial(_unlink, self._files, file_ids))

    async def dates(self) -> dict[str, float]:
        return await self.on_thread(partial(_ids_and_dates, self._files))

    async def remove_unfinished(self, before: float, being_saved: Collection[str]) -> int:
        dates = await self.on_thread(partial(_ids_and_dates, self._incoming))
        unfinished = {file_id for file_id, date in dates.items() if date < before}.difference(being_saved)
        await self.on_thread(partial(_unlink, self._incoming, unfinished))
        return len(unfinished)

    async def close(self) -> None:
        self._threads.shutdown()

    def path(self, file_id: str) -> Path:
        """Where the bytes of a file are. ``file_id`` must be one that the store gave out."""
        assert FILE_ID.fullmatch(file_id)
        return self._files / file_id

    async def on_thread(self, work: Callable[[], T]) -> T:
        """Do ``work`` on a thread for the disk. Who is cancelled still waits until it is done."""
        return await finish(asyncio.get_running_loop().run_in_executor(self._threads, work))


class DiskDraft:
    """Bytes under a temporary path, hashed as they are written."""

    def __init__(self, path: Path, target: Path, on_thread: Callable[[Callable[[], None]], Any]) -> None:
        """Nothing is on disk before the first write."""
        self.size_bytes = 0
        self._path = path
        self._target = target
        self._on_thread = on_thread
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    async def write(self, block: list[bytes]) -> None:
        await self._on_thread(partial(self._write, block))

    async def publish(self, rest: list[bytes]) -> None:
        await self._on_thread(partial(self._publish, rest))

    def _write(self, block: list[bytes]) -> None:
        with _disk_errors():
            if self._file is None:
                _make(self._path.parent)
                self._file = open(self._path, "xb", opener=_private)  # noqa: SIM115
            for piece in block:
                self._file.write(piece)
                self._hash.update(piece)
                self.size_bytes += len(piece)

    def _publish(self, rest: list[bytes]) -> None:
        self._write(rest)
        assert self._file is not None
        with _disk_errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            _make(self._target.parent)
            self._path.rename(self._target)
            _sync_folder(self._target.parent)

    def discard(self) -> None:
        # Done in place: who has been cancelled cannot wait for a thread.
        if self._file is not None:
            # What is still in the buffer may not fit on the disk either.
            with suppress(OSError):
                self._file.close()
            # On a disk that fails it stays, and is swept one day.
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        _unlink(self._target.parent, {self._target.name})


class DiskContent:
    """A file of the disk, open for reading: deleting it meanwhile does not hurt."""

    def __init__(self, file: FileIO, on_thread: Callable[[Callable[[], bytes]], Any]) -> None:
        self._file = file
        self._on_thread = on_thread

    def close(self) -> None:
        self._file.close()

    async def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            chunk: bytes = await self._on_thread(partial(self._read, min(_READ_BLOCK, end - start), start))
            if not chunk:
                return
            yield chunk
            start += len(chunk)

    def _read(self, size: int, offset: int) -> bytes:
        # What was to be sent may have nobody left to send it to, who has closed it.
        return b"" if self._file.closed else os.pread(self._file.fileno(), size, offset)


def _make(folder: Path) -> None:
    """It is there, unless somebody tidied up."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(os.strerror(error.errno)) from error
        raise StorageFailed(error.strerror or str(error)) from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def _sync_folder(folder: Path) -> None:
    """A rename survives a power cut only when the folder is on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _ids_and_dates(folder: Path) -> dict[str, float]:
    """Files of a folder that are named by an id, with when they were last written."""
    dates: dict[str, float] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if FILE_ID.fullmatch(entry.name):
                try:
                    dates[entry.name] = entry.stat(follow_symlinks=False).st_mtime
                except FileNotFoundError:
                    continue
    return dates


def _unlink(folder: Path, file_ids: Collection[str]) -> None:
    for file_id in file_ids:
        try:
            (folder / file_id).unlink(missing_ok=True)
        except OSError as error:
            # Without a row it is nobody's: the next sweep tries again.
            log.warning("cannot remove %s: %s", folder / file_id, error.strerror)
