"""The status of the inodes that user code may change although it cannot remove them.

These are the writable folders, the first content of the home, and inodes of /dev and /proc: everybody may
set the times of a file with write permission to now, and everybody has this permission for a symbolic link.
"""

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from kernel_image import contract
from kernel_image.confinement import privileges
from kernel_image.supervisor.scrub.not_clean import NotClean

_FS_IOC_GETFLAGS: Final = 0x80086601
_FS_IOC_SETFLAGS: Final = 0x40086602
_FLAGS: Final = struct.Struct("=q")
_LISTS: Final = ("/fd", "/fdinfo", "/net")
"""Folders of a process that list what it uses, in files that only root may write."""


class Inode(NamedTuple):
    """Everything of an inode that its owner or a writer can set, so without the time of its last change.

    Attributes:
        flags: as `FS_IOC_GETFLAGS` returns them; None if the file system has none.
        attributes: the extended attributes, which include access control lists.
    """

    mode: int
    uid: int
    gid: int
    size: int
    accessed_ns: int
    modified_ns: int
    flags: int | None
    attributes: dict[str, bytes]


class Inodes:
    """The first state of the inodes that user code may change; `restore` brings them back to it.

    Created before the first kernel starts.
    """

    def __init__(self, uid: int, own: Iterable[str]) -> None:
        """Read the inodes.

        Args:
            uid: the user.
            own: paths that belong to the user, each before its content.
        """
        # A folder comes after its content, which changes the folder's times.
        self._first = {path: _read(path, own=True) for path in reversed(list(own))}
        # Only root may list some of the folders in which everybody may change what they can name.
        with privileges.file_access_of(0):
            self._first |= {path: _read(path, own=False) for path in _changeable(uid)}
        # Finding them has changed some times. The first program must see what the later ones see.
        self.restore()

    def remove_attributes(self, path: str) -> None:
        """Remove the extended attributes that one of the user's own inodes did not have at first."""
        for name in os.listxattr(path):
            if name not in self._first[path].attributes:
                os.removexattr(path, name)

    def restore(self) -> None:
        """Bring every inode back to its first state.

        Raises:
            NotClean: an inode differs and cannot be put back.
            OSError: an inode is gone, or cannot be put back.
        """
        for path, first in self._first.items():
            own = first.flags is not None
            # Clearing has changed the times of the user's own ones.
            if own or _read(path, own=False) != first:
                self._put_back(path, first)
                if (now := _read(path, own=own)) != first:
                    raise NotClean(f"attributes of {path}", f"{now} instead of {first}")

    def _put_back(self, path: str, first: Inode) -> None:
        # Only the owner may set times other than the present one.
        with privileges.file_access_of(first.uid):
            if first.flags is not None:
                os.chmod(path, stat.S_IMODE(first.mode))
                self.remove_attributes(path)
                _set_flags(path, first.flags)
            os.utime(path, ns=(first.accessed_ns, first.modified_ns), follow_symlinks=False)


def _read(path: str, *, own: bool) -> Inode:
    status = os.lstat(path)
    return Inode(
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size,
        accessed_ns=status.st_atime_ns,
        modified_ns=status.st_mtime_ns,
        flags=_flags(path) if own else None,
        attributes={name: os.getxattr(path, name) for name in os.listxattr(path)} if own else {},
    )


def _flags(path: str) -> int:
    """Return the flags of a file or folder, see chattr(1); 0 if its file system has none."""
    with _opened(path) as descriptor:
        try:
            return int(_FLAGS.unpack(fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, bytes(_FLAGS.size)))[0])
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP):
                return 0
            raise


def _set_flags(path: str, flags: int) -> None:
    if _flags(path) != flags:
        with _opened(path) as descriptor:
            fcntl.ioctl(descriptor, _FS_IOC_SETFLAGS, _FLAGS.pack(flags))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _changeable(uid: int) -> Iterator[str]:
    """Yield the inodes beneath /dev and /proc whose times the user may set. No kernel has started yet."""
    for top in ("/dev", "/proc"):
        for path, folders, files in os.walk(top):
            for name in (*folders, *files):
                inside = f"{path}/{name}"
                status = os.lstat(inside)
                if inside not in contract.WRITABLE_FOLDERS and (
                    status.st_mode & stat.S_IWOTH or status.st_uid == uid
                ):
                    yield inside
            folders[:] = [name for name in folders if _may_enter(f"{path}/{name}", uid)]


def _may_enter(folder: str, uid: int) -> bool:
    """Return whether the user can change anything beneath a folder of /dev or /proc."""
    if folder in contract.WRITABLE_FOLDERS or folder.endswith(_LISTS):
        return False
    status = os.lstat(folder)
    passable = status.st_mode & stat.S_IXOTH or status.st_uid == uid
    return bool(passable) and not os.statvfs(folder).f_flag & os.ST_RDONLY
