"""Stored files in a folder.

A file is written under ``incoming/``, synced, and renamed to ``files/<file_id>``.
"""

import asyncio
import errno
import logging
import os
import stat
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from service.files.digest import Digest
from service.files.errors import StorageUnavailable
from service.files.storage import FILE_ID
from service.private_paths.files import make_private_files, open_private, sync
from service.private_paths.folders import make_private_folder
from service.private_paths.trust import NotPrivate
from sessions.errors import FileDamaged, StorageFailed, StorageFull
from sessions.tasks import finish

log = logging.getLogger(__name__)

T = TypeVar("T")

_READ_BLOCK: Final = 256 * 1024
_THREADS: Final = 4

_IRREGULAR = {errno.ELOOP, errno.ENXIO, errno.EISDIR}
# EFBIG is a limit of the file system or of the process: no more fits into this file.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def make_folder(folder: Path) -> None:
    """Create a private folder, or make an existing one private.

    Raises:
        NotPrivate: other users can use the folder.
        StorageUnavailable: the folder cannot be created or examined.
    """
    try:
        make_private_folder(folder)
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
                make_private_folder(folder)
            for folder in (self._files, self._incoming):
                await self.on_thread(partial(make_private_files, folder))
            trial = self._incoming / str(uuid.uuid4())
            trial.touch(mode=0o600)
            trial.unlink()
        except OSError as error:
            raise StorageUnavailable(self._root, error.strerror or str(error)) from error

    async def claim(self, registry_id: str) -> None:
        """Do nothing: the lock on the folder keeps other services out, see `service.files.storage_lock`."""

    async def any(self) -> bool:
        with os.scandir(self._files) as entries:
            return any(FILE_ID.fullmatch(entry.name) for entry in entries)

    def draft(self, file_id: str, filename: str) -> "DiskDraft":
        return DiskDraft(self._incoming / file_id, self.path(file_id), self.on_thread)

    async def open(self, file_id: str) -> "DiskContent":
        try:
            file = await self.on_thread(partial(FileIO, self.path(file_id), opener=_regular))
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in _IRREGULAR:
                raise FileDamaged(file_id) from error
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
        """Return the path of a file. ``file_id`` must be a valid id."""
        assert FILE_ID.fullmatch(file_id)
        return self._files / file_id

    async def on_thread(self, work: Callable[[], T]) -> T:
        """Call ``work`` on a thread. A cancelled caller waits until it has ended."""
        return await finish(asyncio.get_running_loop().run_in_executor(self._threads, work))


class DiskDraft:
    """`service.files.storage.Draft` at a temporary path, hashed as it is written."""

    def __init__(self, path: Path, target: Path, on_thread: Callable[[Callable[[], None]], Any]) -> None:
        """Prepare a draft. The first write creates the file at ``path``."""
        self._path = path
        self._target = target
        self._on_thread = on_thread
        self._file: BinaryIO | None = None
        self._digest = Digest()

    @property
    def size_bytes(self) -> int:
        return self._digest.size_bytes

    @property
    def sha256(self) -> str:
        return self._digest.sha256

    @property
    def ends_sha256(self) -> str | None:
        return self._digest.ends_sha256

    async def write(self, block: list[bytes]) -> None:
        await self._on_thread(partial(self._write, block))

    async def publish(self, rest: list[bytes]) -> None:
        await self._on_thread(partial(self._publish, rest))

    def _write(self, block: list[bytes]) -> None:
        with _disk_errors():
            if self._file is None:
                _make_again(self._path.parent)
                self._file = open(self._path, "xb", opener=open_private)  # noqa: SIM115
            for piece in block:
                self._file.write(piece)
                self._digest.update(piece)

    def _publish(self, rest: list[bytes]) -> None:
        self._write(rest)
        assert self._file is not None
        with _disk_errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            _make_again(self._target.parent)
            self._path.rename(self._target)
            sync(self._target.parent)

    def discard(self) -> None:
        # Not on a thread: a cancelled task cannot wait for one.
        if self._file is not None:
            # Writing the rest of the buffer may fail as well, on a full disk.
            with suppress(OSError):
                self._file.close()
            # If the disk fails, a later sweep removes the file.
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        _unlink(self._target.parent, {self._target.name})


class DiskContent:
    """`service.files.storage.Content` of an open file, which can be read to its end even if it is deleted."""

    def __init__(self, file: FileIO, on_thread: Callable[[Callable[[], bytes]], Any]) -> None:
        self.size_bytes = os.fstat(file.fileno()).st_size
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
        # The response may have closed the file when its client disconnected.
        return b"" if self._file.closed else os.pread(self._file.fileno(), size, offset)


def _make_again(folder: Path) -> None:
    """Create a folder again after an operator has removed it."""
    if not folder.is_dir():
        make_private_folder(folder)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except NotPrivate as error:
        raise StorageFailed(str(error)) from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(os.strerror(error.errno)) from error
        raise StorageFailed(error.strerror or str(error)) from error


def _regular(path: str, flags: int) -> int:
    """Open a regular file; raise ``OSError`` for a link, a pipe and everything else."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    return descriptor


def _ids_and_dates(folder: Path) -> dict[str, float]:
    """Return the ids of the files in a folder, and when each was written."""
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
            # The file has no row any more, so the next sweep tries again.
            log.warning("cannot remove %s: %s", folder / file_id, error.strerror)
