"""Folders that only the service can use."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from service.private_paths.path import resolve
from service.private_paths.trust import (
    GROUP_AND_OTHERS,
    NotPrivate,
    give_to_us,
    is_shared,
    is_volume_of_pod,
    trusted_users,
    user_name,
)

_REGISTRY: Final = "registry.sqlite3"
_FOLDERS: Final = {"files", "incoming"}
"""Folders of a service in its storage folder."""
_FOR_EVERYBODY: Final = {Path("/"), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")}
"""Folders that are not made private, whatever they contain."""


def make_private_folder(folder: Path) -> Path:
    """Return a folder that only this user, root and the user's groups can use; its path has no links.

    Create missing folders. Take permissions from others if this user owns the folder.

    Raises:
        NotPrivate: others can use the folder, or replace it.
        OSError: the folder cannot be created or examined.
    """
    at, missing = resolve(folder)
    for name in missing:
        at = at / name
        try:
            at.mkdir(0o700)
        except FileExistsError:
            # Another process has created it meanwhile.
            return make_private_folder(folder)
        # The umask may have taken permissions from this user too.
        at.chmod(0o700)
    if not missing and _is_open(at):
        at.chmod(0o700)
        if at.stat().st_mode & GROUP_AND_OTHERS:
            raise NotPrivate(at, "its file system ignores permissions", "use a folder on another disk")
    return at


def check_private_folder(folder: Path) -> None:
    """Check a folder as ``make_private_folder`` does, and change nothing."""
    at, missing = resolve(folder)
    if not missing:
        _is_open(at)


def _is_open(folder: Path) -> bool:
    """Return whether others can use a folder of this user. Raises ``NotPrivate`` if that has to stay so."""
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if found.st_uid not in trusted_users():
        raise NotPrivate(folder, f"it belongs to {user_name(found.st_uid)}", give_to_us(folder))
    is_open = is_shared(found)
    if found.st_uid != os.geteuid():
        if is_open and not is_volume_of_pod(folder):
            advice = f"{give_to_us(folder)}, or let only its owner and a group of that user use it"
            raise NotPrivate(folder, "other users can use it", advice)
        return False
    is_ours = _is_storage(folder)
    if is_open and not is_ours:
        reason = "other users can use it, and it has contents that are not the service's"
        raise NotPrivate(folder, reason, f"use a folder of its own, or make it private (chmod 700 {folder})")
    return is_ours and bool(found.st_mode & GROUP_AND_OTHERS)


def _is_storage(folder: Path) -> bool:
    """Return whether a folder is for this service alone. `/tmp` or `/srv` must stay as they are."""
    if folder in _FOR_EVERYBODY:
        return False
    with os.scandir(folder) as entries:
        names = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    if _REGISTRY in names or names.keys() >= _FOLDERS:
        return True
    return not any(is_folder for name, is_folder in names.items() if name not in {*_FOLDERS, "lost+found"})
