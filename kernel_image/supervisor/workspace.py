"""The workspace as the supervisor sees it: staging inputs, finding what changed, reading it out.

Every path here may be under the control of the user's code. So each component is opened relative
to its folder and without following links, only regular files are touched, and the process does it
with the file rights of the user (`lockdown.use_file_access_of`).
"""

import errno
import hashlib
import itertools
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from kernel_image import contract

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PART_PREFIX = ".upload-part-"
"""Names of files that are still on their way in; the code may have files of such names, too."""
_SCAN_LIMIT = 100_000
"""Directory entries looked at in one scan."""
_LIST_LIMIT = 10_000
"""Changed and skipped files reported, each; the rest is counted."""
_LIST_CHARACTERS: Final = 1 << 22
"""Of all paths in a report together: what is reported has to fit into one frame."""


class NotRegular(OSError):
    """The path names something else than a regular file."""


@dataclass(frozen=True)
class Stamp:
    """What tells one version of a file from another without reading it. User code can't forge ctime."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass
class Changes:
    """Files that are new or differ since the last snapshot; `skipped` could not be returned."""

    changed: list[dict[str, str | int]] = field(default_factory=list)
    skipped: list[dict[str, str | int]] = field(default_factory=list)
    left_out: int = 0
    _characters: int = 0

    def add(self, path: str, size: int) -> None:
        self._report(self.changed, {"path": path, "size_bytes": size}, path)

    def skip(self, path: str, reason: str, size: int = 0) -> None:
        name = path.encode("utf-8", "backslashreplace").decode()
        if len(name) > contract.MAX_PATH_BYTES:
            name = name[: contract.MAX_PATH_BYTES] + "…"
        self._report(self.skipped, {"path": name, "size_bytes": size, "reason": reason}, name)

    def _report(self, listed: list[dict[str, str | int]], item: dict[str, str | int], path: str) -> None:
        self._characters += len(path)
        if len(listed) < _LIST_LIMIT and self._characters <= _LIST_CHARACTERS:
            listed.append(item)
        else:
            self.left_out += 1

    def told(self) -> dict[str, object]:
        """As the last frame of a cell tells it."""
        return {"changed": self.changed, "skipped": self.skipped, "left_out": self.left_out}


@contextmanager
def _folder(root: str, parts: list[str], *, make: bool = False) -> Iterator[int]:
    """Descriptor of a folder beneath `root`, made if wanted."""
    handle = os.open(root, _FOLDER_FLAGS)
    try:
        for part in parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=handle)
            below = os.open(part, _FOLDER_FLAGS, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


class Workspace:
    """The folder that user code works in."""

    def __init__(self, root: str = contract.WORKSPACE) -> None:
        self._root = root
        self._stamps: dict[str, Stamp] = {}
        self._digests: dict[str, bytes] = {}
        self._parts: set[str] = set()
        """Paths of files that are on their way in."""

    def create(self, path: str) -> tuple[int, str]:
        """Open a new file that is to be `path` once it is whole, see `put_in_place`; makes the folders.

        Returns its descriptor and the path it has until then.

        Raises:
            OSError: a component is not a folder, or there is no space left.
        """
        *folders, _ = path.split("/")
        name = _PART_PREFIX + secrets.token_hex(8)
        part = "/".join([*folders, name])
        with _folder(self._root, folders, make=True) as handle:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE_FLAGS
            descriptor = os.open(name, flags, 0o644, dir_fd=handle)
        self._parts.add(part)
        return descriptor, part

    def put_in_place(self, part: str, path: str) -> None:
        """Give a whole file its path, in place of a file that is there.

        Raises:
            OSError: the path is a folder, or the user's code has taken the file away.
        """
        *folders, name = path.split("/")
        with _folder(self._root, folders) as handle:
            os.rename(part.rpartition("/")[2], name, src_dir_fd=handle, dst_dir_fd=handle)
        self._parts.discard(part)

    def delete(self, path: str) -> None:
        """Delete the file, not folder, at the relative `path`; of a link, the link.

        Raises:
            OSError: there is none, or it is a folder.
        """
        *folders, name = path.split("/")
        self._parts.discard(path)
        with _folder(self._root, folders) as handle:
            os.unlink(name, dir_fd=handle)

    def rename(self, path: str, to: str) -> None:
        """Move a regular file; folders on the way to its new path are made.

        Raises:
            NotRegular: the path names something else.
            FileExistsError: the new path is taken.
            OSError: there is no such file, or it can't be moved there.
        """
        *folders, name = path.split("/")
        *new_folders, new_name = to.split("/")
        with _folder(self._root, folders) as source:
            if not stat.S_ISREG(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
                raise NotRegular(errno.EINVAL, "not a regular file", path)
            with _folder(self._root, new_folders, make=True) as target:
                # A link fails where the new name is taken; a rename would replace it.
                os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
                os.unlink(name, dir_fd=source)

    def listing(self) -> list[dict[str, str | int | float]]:
        """Regular files with their sizes in bytes and when they were last modified, by path."""
        found = Changes()
        modified_at: dict[str, float] = {}
        for path, status in self._files(Changes()):
            found.add(path, status.st_size)
            modified_at[path] = status.st_mtime
        listed = sorted(found.changed, key=lambda item: item["path"])
        return [{**item, "modified_at": modified_at[str(item["path"])]} for item in listed]

    def staged(self, path: str, descriptor: int, digest: bytes) -> None:
        """Remember an input (sha256 `digest`) so that, left as it is, it does not come back as an output."""
        self._stamps[path] = Stamp.of(os.fstat(descriptor))
        self._digests[path] = digest

    def open(self, path: str) -> tuple[int, int]:
        """Descriptor and size in bytes of the regular file at the relative `path`.

        Raises:
            NotRegular: it is a link, folder, FIFO, socket or device.
            OSError: it is gone, or the user has no right to read it.
        """
        *folders, name = path.split("/")
        with _folder(self._root, folders) as handle:
            try:
                descriptor = os.open(name, os.O_RDONLY | _FILE_FLAGS, dir_fd=handle)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO):
                    raise NotRegular(error.errno, "not a regular file", path) from error
                raise
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise NotRegular(errno.EINVAL, "not a regular file", path)
        return descriptor, status.st_size

    def snapshot(self) -> None:
        """Take what is there now as known: only what changes from here on is a change."""
        stamps = {path: Stamp.of(status) for path, status in self._files(Changes())}
        self._digests = {
            path: digest for path, digest in self._digests.items() if stamps.get(path) == self._stamps[path]
        }
        self._stamps = stamps

    def changes(self) -> Changes:
        """Compare with the last snapshot and the staged inputs."""
        found = Changes()
        for path, status in self._files(found):
            if self._stamps.get(path) != Stamp.of(status) and not self._is_untouched_input(
                path, status.st_size
            ):
                found.add(path, status.st_size)
        found.changed.sort(key=lambda item: item["path"])
        return found

    def _is_untouched_input(self, path: str, size: int) -> bool:
        """Whether a staged file was rewritten with the very bytes it had."""
        digest, stamp = self._digests.get(path), self._stamps.get(path)
        if digest is None or stamp is None or stamp.size != size:
            return False
        try:
            descriptor, _ = self.open(path)
        except OSError:
            return False
        with os.fdopen(descriptor, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest() == digest

    def _files(self, report: Changes) -> Iterator[tuple[str, os.stat_result]]:
        """Regular files beneath the root, depth first; what can't be returned goes to `report`."""
        try:
            root = os.open(self._root, _FOLDER_FLAGS)
        except OSError as error:
            report.skip(".", error.strerror or "unreadable")
            return
        try:
            yield from self._files_below(root, "", 1, itertools.count(1), report)
        except _TooManyEntries as error:
            report.skip(str(error) or ".", f"more than {_SCAN_LIMIT} entries: the rest was not looked at")

    def _files_below(
        self, folder: int, prefix: str, depth: int, seen: Iterator[int], report: Changes
    ) -> Iterator[tuple[str, os.stat_result]]:
        """Files in a folder, whose descriptor is closed at the end, and then in the folders in it.

        One descriptor is open for each level, however many folders there are.
        """
        below: list[str] = []
        try:
            for name, status in self._entries(folder, prefix, seen, report):
                reason = _objection(prefix + name, status, depth)
                if reason is not None:
                    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
                    report.skip(prefix + name, reason, size)
                elif stat.S_ISDIR(status.st_mode):
                    below.append(name)
                else:
                    yield prefix + name, status
            for name in below:
                try:
                    handle = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
                except OSError as error:
                    report.skip(prefix + name, error.strerror or "unreadable")
                else:
                    yield from self._files_below(handle, f"{prefix}{name}/", depth + 1, seen, report)
        finally:
            os.close(folder)

    def _entries(
        self, folder: int, prefix: str, seen: Iterator[int], report: Changes
    ) -> Iterator[tuple[str, os.stat_result]]:
        """What is in a folder. Raises `_TooManyEntries`."""
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if prefix + entry.name in self._parts:
                        continue
                    if next(seen) > _SCAN_LIMIT:
                        raise _TooManyEntries(prefix)
                    with suppress(FileNotFoundError):
                        yield entry.name, os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            report.skip(prefix or ".", error.strerror or "unreadable")


class _TooManyEntries(Exception):
    """There is more in the workspace than is looked at."""


def _objection(path: str, status: os.stat_result, depth: int) -> str | None:
    """Why what is there can't be returned; None for files that can, and for folders to look into."""
    if len(os.fsencode(path)) > contract.MAX_PATH_BYTES:
        return f"path of more than {contract.MAX_PATH_BYTES} bytes"
    if stat.S_ISDIR(status.st_mode):
        too_deep = depth >= contract.MAX_DEPTH
        return f"deeper than {contract.MAX_DEPTH} folders" if too_deep else None
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    return None if _is_text(path) else "name is not UTF-8"


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
