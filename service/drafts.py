"""A file on its way to the disk. Everything here blocks: it belongs on a thread."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from service.errors import StorageFailed, StorageFull

# EFBIG: a limit of the file system or of the process, which is full for this file too.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Draft:
    """Bytes under a temporary path, hashed as they are written.

    Raises ``StorageFull`` where the disk takes no more, ``StorageFailed`` for its other failures.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is on disk before the first write."""
        self.size_bytes = 0
        self._path = path
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of all bytes written so far, in lower-case hexadecimal."""
        return self._hash.hexdigest()

    def write(self, block: list[bytes]) -> None:
        """Append the pieces of a block."""
        with _disk_errors():
            if self._file is None:
                _make(self._path.parent)
                self._file = open(self._path, "xb", opener=_private)  # noqa: SIM115
            for piece in block:
                self._file.write(piece)
                self._hash.update(piece)
                self.size_bytes += len(piece)

    def publish(self, rest: list[bytes], target: Path) -> None:
        """Append the rest, and make the file appear at ``target`` whole and for good."""
        self.write(rest)
        assert self._file is not None
        with _disk_errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            _make(target.parent)
            self._path.rename(target)
            _sync_folder(target.parent)

    def discard(self) -> None:
        """Remove the temporary file, if there is one."""
        if self._file is not None:
            # What is still in the buffer may not fit on the disk either.
            with suppress(OSError):
                self._file.close()
            # On a disk that fails it stays, and is swept one day.
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


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
