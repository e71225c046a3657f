"""Copies files so that the copies survive a power failure, and reports the progress."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Final

from service.private_paths.files import open_private

REGISTRY: Final = "registry.sqlite3"
"""File name of the registry in a backup."""
FILES: Final = "files"
"""Name of the folder with the stored files, in a backup and in `FILE_STORAGE_DIR`."""

_REPORT_SEC: Final = 2.0


class Progress:
    """Reports on standard error how many files are copied, every two seconds."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._reported_at = time.monotonic()

    def report(self, files: int, size_bytes: int) -> None:
        """Print a line if the last one is at least two seconds old."""
        if time.monotonic() - self._reported_at >= _REPORT_SEC:
            self._reported_at = time.monotonic()
            sys.stderr.write(f"{files} of {self._total} files, {size_bytes} bytes ...\n")


def copy_file(source: Path, target: Path) -> int:
    """Copy a file to a new path, and sync it. Only its owner can read it. Returns its size in bytes.

    A stored file never changes, so it can be copied while the service runs.
    """
    with source.open("rb") as original, open(target, "xb", opener=open_private) as copy:
        shutil.copyfileobj(original, copy, 1 << 20)
        os.fsync(copy.fileno())
        return copy.tell()


def reason_of(error: Exception) -> str:
    """Return the message of the operating system or of SQLite, in one line."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
