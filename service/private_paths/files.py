"""Files that only the service can use."""

import errno
import os
import stat
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

from service.private_paths.folders import make_private_folder
from service.private_paths.path import resolve
from service.private_paths.trust import (
    GROUP_AND_OTHERS,
    NotPrivate,
    give_to_us,
    is_own,
    is_shared,
    is_volume_of_pod,
    may_be_written_by_others,
    own_groups,
    trusted_users,
    user_name,
)

_SQLITE_SUFFIXES: Final = ("", "-wal", "-shm", "-journal", ".lock")


def make_private_file(path: Path) -> None:
    """Take permissions from others, unless the file does not exist. Its folder must be safe.

    Raises:
        NotPrivate: the file belongs to another user, or is not a regular file.
        OSError: the file cannot be changed.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise NotPrivate(path, "it is not a regular file", "remove it")
    if not is_own(found.st_uid):
        raise NotPrivate(path, f"it belongs to {user_name(found.st_uid)}", give_to_us(path))
    if found.st_mode & GROUP_AND_OTHERS:
        path.chmod(0o600)


def make_private_files(folder: Path) -> None:
    """Call ``make_private_file`` for each file in a folder that this user owns; leave everything else."""
    with os.scandir(folder) as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(found.st_mode) and is_own(found.st_uid):
                make_private_file(Path(entry.path))


def read_private_file(path: Path) -> bytes | None:
    """Return the contents of a file that others cannot read; None if it does not exist.

    Raises:
        NotPrivate: others can read, change or replace the file.
        OSError: the file cannot be read.
    """
    at, missing = resolve(path)
    if missing:
        return None
    found = at.stat()
    is_roots = found.st_uid in trusted_users() and not is_own(found.st_uid)
    if is_roots and stat.S_ISREG(found.st_mode) and not is_shared(found):
        return at.read_bytes()
    make_private_file(at)
    return at.read_bytes()


def check_trusted_file(path: Path) -> Path:
    """Return the path of a file, without links. Others may read the file, and cannot change it.

    Raises:
        NotPrivate: another user owns the file, or can change or replace it.
        OSError: the file does not exist, or cannot be examined.
    """
    at, missing = resolve(path)
    if missing:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    found = at.stat()
    if found.st_uid not in trusted_users():
        raise NotPrivate(path, f"it belongs to {user_name(found.st_uid)}", give_to_us(path))
    if may_be_written_by_others(found):
        raise NotPrivate(path, "other users can write to it", f"take that from them (chmod go-w {path})")
    return at


def can_be_read_by_others(path: Path) -> bool:
    """Return whether users other than root, this user and the user's groups can read a file."""
    found = path.stat()
    is_for_all = bool(found.st_mode & stat.S_IROTH)
    is_for_group = bool(found.st_mode & stat.S_IRGRP) and found.st_gid not in {0, *own_groups()}
    return (is_for_all or is_for_group) and all(
        parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents
    )


def create_private_file(path: Path, content: bytes) -> None:
    """Create a file that only this user can read, complete and durable, unless it exists already.

    Raises:
        NotPrivate: others can replace the file.
        OSError: the file cannot be created.
    """
    folder = make_private_folder(path.parent) if not path.parent.is_dir() else path.parent
    draft = folder / f".{path.name}.{uuid.uuid4().hex}"
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        # A link never replaces a file, which another process may have created meanwhile.
        with suppress(FileExistsError):
            os.link(draft, folder / path.name)
    finally:
        draft.unlink()
    sync(folder)


def open_private(path: str, flags: int) -> int:
    """Open a file as `open` does with this as its `opener`. Only its owner can read a new file."""
    return os.open(path, flags, 0o600)


def sync(path: Path) -> None:
    """Flush a file, or a folder with its names, to the disk. A rename survives a power cut only then."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private_database(file: Path) -> None:
    """Create a SQLite file that only this user can read, or make an existing one and its companions so.

    SQLite gives its write-ahead log and its index the permissions of the database. Call this before SQLite
    opens the file.

    Raises:
        NotPrivate: another user owns one of the files, or can create files beside them.
        OSError: the files cannot be created or changed.
    """
    at, missing = resolve(file)
    if len(missing) > 1:
        return  # SQLite reports the missing folder.
    at = at.joinpath(*missing)
    found = at.parent.stat()
    if may_be_written_by_others(found) and not is_volume_of_pod(at.parent):
        advice = (
            f"take that from them (chmod go-w {at.parent}), or name a file in another folder by DATABASE_URL"
        )
        raise NotPrivate(at.parent, "other users can create files in it, beside the registry", advice)
    for suffix in _SQLITE_SUFFIXES:
        make_private_file(at.with_name(at.name + suffix))
    if missing:
        os.close(os.open(at, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        at.chmod(0o600)
