"""Follows a path, and checks that no other user can replace a part of it."""

import os
import stat
from collections import deque
from pathlib import Path
from typing import Final

from service.private_paths.trust import (
    NotPrivate,
    give_to_us,
    is_volume_of_pod,
    may_be_written_by_others,
    trusted_users,
    user_name,
)

_MAX_LINKS: Final = 40


def resolve(path: Path) -> tuple[Path, list[str]]:
    """Follow the links in a path. Return the part that exists, and the names that are missing below it.

    Raises:
        NotPrivate: another user can replace a part of the path.
        OSError: the path cannot be examined.
    """
    at = Path("/")
    names = deque(path.absolute().parts[1:])
    links = 0
    while names:
        name = names.popleft()
        if name == "..":
            at = at.parent
            continue
        child = at / name
        try:
            found = child.lstat()
        except FileNotFoundError:
            _check_parent(at, None)
            return at, [name, *names]
        _check_parent(at, found)
        if not stat.S_ISLNK(found.st_mode):
            at = child
            continue
        links += 1
        if links > _MAX_LINKS:
            raise NotPrivate(path, "it has too many symbolic links", "use a path without links")
        target = child.readlink()
        names.extendleft(reversed(target.parts[1:] if target.is_absolute() else target.parts))
        if target.is_absolute():
            at = Path("/")
    return at, []


def _check_parent(folder: Path, entry: os.stat_result | None) -> None:
    """Check that no other user can replace the entry of a folder, or the missing entry (None)."""
    found = folder.stat()
    if found.st_uid not in trusted_users():
        reason = f"it belongs to {user_name(found.st_uid)}, who can replace what is in it"
        raise NotPrivate(folder, reason, f"use a folder elsewhere, or {give_to_us(folder)}")
    if not may_be_written_by_others(found) or is_volume_of_pod(folder):
        return
    if not found.st_mode & stat.S_ISVTX:
        reason = "other users can replace what is in it"
        raise NotPrivate(
            folder, reason, f"take that from them (chmod go-w {folder}), or use a folder elsewhere"
        )
    if entry is not None and entry.st_uid not in trusted_users():
        reason = f"{user_name(entry.st_uid)} owns an entry in it that is a part of the path"
        raise NotPrivate(folder, reason, "use a folder elsewhere, or remove the entry")
