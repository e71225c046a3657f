"""The workspace as the supervisor uses it: stages inputs, finds changed files, opens files to read them out.

User code may control every path. So each component is opened relative to its folder and without
following links, and only regular files are touched. The process opens files with the rights of the
user (`privileges.use_file_access_of`).
"""

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from kernel_image import contract
from kernel_image.supervisor.workspace_scan import FOLDER_FLAGS, FileReport, scan

_FILE_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PART_PREFIX = ".upload-part-"
"""Name prefix of unfinished uploads. User code may have files with such names, too."""


class NotRegular(OSError):
    """The path does not name a regular file."""


@dataclass(frozen=True)
class Stamp:
    """Identifies one version of a file without reading it. User code cannot set `changed_ns` (ctime)."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@contextmanager
def _folder(root: str, parts: list[str], *, make: bool = False) -> Iterator[int]:
    """Open a folder beneath `root` and give its descriptor. With `make`, create missing folders."""
    handle = os.open(root, FOLDER_FLAGS)
    try:
        for part in parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=handle)
            subfolder = os.open(part, FOLDER_FLAGS, dir_fd=handle)
            os.close(handle)
            handle = subfolder
        yield handle
    finally:
        os.close(handle)


class Workspace:
    """The folder in which user code works. All paths are relative to it."""

    def __init__(self, root: str = contract.WORKSPACE) -> None:
        self._root = root
        self._stamps: dict[str, Stamp] = {}
        """Files at the last snapshot, and inputs staged since."""
        self._input_digests: dict[str, bytes] = {}
        self._parts: set[str] = set()
        """Paths of unfinished uploads."""

    def create_part(self, path: str) -> tuple[int, str]:
        """Create a temporary file for an upload to `path`, and any missing folders.

        Returns:
            The file's descriptor, and its path until `put_in_place`.

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
        """Move a complete upload to its path. An existing file is replaced.

        Raises:
            OSError: the path is a folder, or user code has removed the temporary file.
        """
        *folders, name = path.split("/")
        with _folder(self._root, folders) as handle:
            os.rename(part.rpartition("/")[2], name, src_dir_fd=handle, dst_dir_fd=handle)
        self._parts.discard(part)

    def delete(self, path: str) -> None:
        """Delete a file. A link is deleted itself, not its target.

        Raises:
            OSError: there is no such file, or it is a folder.
        """
        *folders, name = path.split("/")
        self._parts.discard(path)
        with _folder(self._root, folders) as handle:
            os.unlink(name, dir_fd=handle)

    def rename(self, path: str, to: str) -> None:
        """Move a regular file. Missing folders of the new path are created.

        Raises:
            NotRegular: the path does not name a regular file.
            FileExistsError: the new path exists already.
            OSError: there is no such file, or it cannot be moved there.
        """
        *folders, name = path.split("/")
        *new_folders, new_name = to.split("/")
        with _folder(self._root, folders) as source:
            if not stat.S_ISREG(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
                raise NotRegular(errno.EINVAL, "not a regular file", path)
            with _folder(self._root, new_folders, make=True) as target:
                # A link fails if the new name exists. A rename would replace that file.
                os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
                os.unlink(name, dir_fd=source)

    def listing(self) -> list[dict[str, str | int | float]]:
        """Return path, size in bytes and modification time (Unix seconds) of each file, ordered by path."""
        report = FileReport()
        modified_at: dict[str, float] = {}
        for path, status in self._scan(FileReport()):
            report.add(path, status.st_size)
            modified_at[path] = status.st_mtime
        listed = sorted(report.files, key=lambda item: item["path"])
        return [{**item, "modified_at": modified_at[str(item["path"])]} for item in listed]

    def remember_input(self, path: str, descriptor: int, digest: bytes) -> None:
        """Remember a staged input, so that an unchanged input is not reported as an output.

        Args:
            path: where the input was staged.
            descriptor: the open file.
            digest: SHA-256 of its content.
        """
        self._stamps[path] = Stamp.of(os.fstat(descriptor))
        self._input_digests[path] = digest

    def open(self, path: str) -> tuple[int, int]:
        """Open a regular file to read it; return its descriptor and its size in bytes.

        Raises:
            NotRegular: the path names a link, folder, FIFO, socket or device.
            OSError: there is no such file, or the user may not read it.
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
        """Remember all present files: `changes` reports what differs from them."""
        stamps = {path: Stamp.of(status) for path, status in self._scan(FileReport())}
        self._input_digests = {
            path: digest
            for path, digest in self._input_digests.items()
            if stamps.get(path) == self._stamps[path]
        }
        self._stamps = stamps

    def changes(self) -> FileReport:
        """Report the files that are new, or differ from the last snapshot and the staged inputs."""
        report = FileReport()
        for path, status in self._scan(report):
            if self._stamps.get(path) != Stamp.of(status) and not self._is_unchanged_input(
                path, status.st_size
            ):
                report.add(path, status.st_size)
        report.files.sort(key=lambda item: item["path"])
        return report

    def _is_unchanged_input(self, path: str, size: int) -> bool:
        """Return whether a staged file was rewritten with the same bytes."""
        digest, stamp = self._input_digests.get(path), self._stamps.get(path)
        if digest is None or stamp is None or stamp.size != size:
            return False
        try:
            descriptor, _ = self.open(path)
        except OSError:
            return False
        with os.fdopen(descriptor, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest() == digest

    def _scan(self, report: FileReport) -> Iterator[tuple[str, os.stat_result]]:
        return scan(self._root, report, ignored=self._parts)
