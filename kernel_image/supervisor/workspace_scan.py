"""Walks the workspace and reports its files.

User code may change the tree at any time. Each entry is opened relative to its folder and without
following links. The number of entries, the number of reported files and the size of their paths are
bounded.
"""

import itertools
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from kernel_image import contract

FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""`os.open` flags for a folder: fail on a link and on everything else."""
_SCAN_LIMIT: Final = 100_000
"""Most directory entries that one scan looks at."""
_LIST_LIMIT: Final = 10_000
"""Most files in each list of a report. The rest is counted."""
_LIST_CHARACTERS: Final = 1 << 22
"""Most characters of all paths in a report together, because a report must fit into one frame."""


@dataclass
class FileReport:
    """Files of the workspace, for the service.

    Attributes:
        files: `path` and `size_bytes` of each file that can be read out.
        skipped: the same, and a `reason`, of each file that cannot be read out.
        left_out: how many files are in neither list, because the lists are full.
    """

    files: list[dict[str, str | int]] = field(default_factory=list)
    skipped: list[dict[str, str | int]] = field(default_factory=list)
    left_out: int = 0
    _characters: int = 0

    def add(self, path: str, size: int) -> None:
        self._append(self.files, {"path": path, "size_bytes": size}, path)

    def skip(self, path: str, reason: str, size: int = 0) -> None:
        name = path.encode("utf-8", "backslashreplace").decode()
        if len(name) > contract.MAX_PATH_BYTES:
            name = name[: contract.MAX_PATH_BYTES] + "…"
        self._append(self.skipped, {"path": name, "size_bytes": size, "reason": reason}, name)

    def _append(self, listed: list[dict[str, str | int]], item: dict[str, str | int], path: str) -> None:
        self._characters += len(path)
        if len(listed) < _LIST_LIMIT and self._characters <= _LIST_CHARACTERS:
            listed.append(item)
        else:
            self.left_out += 1

    def as_json(self) -> dict[str, object]:
        """Return the report as the last frame of a cell has it."""
        return {"changed": self.files, "skipped": self.skipped, "left_out": self.left_out}


def scan(root: str, report: FileReport, ignored: Collection[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the path and the status of each regular file beneath `root`, depth first.

    Args:
        root: path of the workspace.
        report: gets each entry that cannot be yielded, as skipped.
        ignored: relative paths to pass over in silence.
    """
    try:
        handle = os.open(root, FOLDER_FLAGS)
    except OSError as error:
        report.skip(".", error.strerror or "unreadable")
        return
    try:
        yield from _Scan(report, ignored).files(handle, "", 1)
    except _TooManyEntries as error:
        report.skip(str(error) or ".", f"more than {_SCAN_LIMIT} entries: the rest was not looked at")


class _TooManyEntries(Exception):
    """The scan has reached its limit; the message is the folder where it stopped."""


class _Scan:
    """One walk through the workspace."""

    def __init__(self, report: FileReport, ignored: Collection[str]) -> None:
        self._report = report
        self._ignored = ignored
        self._entry_numbers = itertools.count(1)

    def files(self, folder: int, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the files in a folder and then those in its subfolders; close its descriptor at the end.

        One descriptor is open for each level, however many folders there are.
        """
        subfolders: list[str] = []
        try:
            for name, status in self._entries(folder, prefix):
                reason = _reason_to_skip(prefix + name, status, depth)
                if reason is not None:
                    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
                    self._report.skip(prefix + name, reason, size)
                elif stat.S_ISDIR(status.st_mode):
                    subfolders.append(name)
                else:
                    yield prefix + name, status
            for name in subfolders:
                try:
                    handle = os.open(name, FOLDER_FLAGS, dir_fd=folder)
                except OSError as error:
                    self._report.skip(prefix + name, error.strerror or "unreadable")
                else:
                    yield from self.files(handle, f"{prefix}{name}/", depth + 1)
        finally:
            os.close(folder)

    def _entries(self, folder: int, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield name and status of each entry of a folder.

        Raises:
            _TooManyEntries: the whole scan has reached its limit.
        """
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if prefix + entry.name in self._ignored:
                        continue
                    if next(self._entry_numbers) > _SCAN_LIMIT:
                        raise _TooManyEntries(prefix)
                    with suppress(FileNotFoundError):
                        yield entry.name, os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            self._report.skip(prefix or ".", error.strerror or "unreadable")


def _reason_to_skip(path: str, status: os.stat_result, depth: int) -> str | None:
    """Return why an entry cannot be read out; None for readable files and for folders to walk into."""
    if len(os.fsencode(path)) > contract.MAX_PATH_BYTES:
        return f"path of more than {contract.MAX_PATH_BYTES} bytes"
    if stat.S_ISDIR(status.st_mode):
        too_deep = depth >= contract.MAX_DEPTH
        return f"deeper than {contract.MAX_DEPTH} folders" if too_deep else None
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    return None if _is_utf8(path) else "name is not UTF-8"


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
