"""Which users and groups may use what belongs to the service."""

import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from service.errors import StartError

_IMAGE_USER: Final = "interpreter"
"""Name of the user that the service's image defines."""
_POD: Final = Path("/var/run/secrets/kubernetes.io")
"""Kubernetes mounts this folder into pods."""
GROUP_AND_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
"""Permissions of all users but the owner."""


class NotPrivate(StartError):
    """Another user of the machine may read or change a folder or a file of the service."""

    def __init__(self, path: Path, reason: str, advice: str) -> None:
        super().__init__(f"Cannot use {path}: {reason}; {advice}.")
        self.path = path
        self.reason = reason
        self.advice = advice


def is_shared(found: os.stat_result) -> bool:
    """Return whether users other than the owner and the members of a group of ours have any permission."""
    is_of_foreign_group = bool(found.st_mode & stat.S_IRWXG) and found.st_gid not in own_groups()
    return is_of_foreign_group or bool(found.st_mode & stat.S_IRWXO)


def may_be_written_by_others(found: os.stat_result) -> bool:
    """Return whether users other than the owner, root's group and our groups may write."""
    is_group_trusted = found.st_gid in {0, *own_groups()}
    return bool(found.st_mode & (stat.S_IWOTH if is_group_trusted else stat.S_IWOTH | stat.S_IWGRP))


def is_volume_of_pod(folder: Path) -> bool:
    """Return whether a folder is a volume of a pod. All users may write to many, but only the pod has it."""
    return folder.is_mount() and _POD.is_dir()


def is_own(user_id: int) -> bool:
    """Return whether this process is the user, or is root and may take over the files of the image's user."""
    return user_id == os.geteuid() or (os.geteuid() == 0 and user_id in trusted_users())


def trusted_users() -> set[int]:
    """Return the ids of root, of this process's user, and of the image's user."""
    trusted = {0, os.geteuid()}
    with suppress(KeyError):
        trusted.add(pwd.getpwnam(_IMAGE_USER).pw_uid)
    return trusted


def own_groups() -> set[int]:
    """Return the ids of the groups of this process."""
    return {os.getegid(), *os.getgroups()}


def user_name(user_id: int) -> str:
    """Return the number of a user, and the name if there is one, for a message."""
    try:
        return f"user {user_id} ({pwd.getpwuid(user_id).pw_name})"
    except KeyError:
        return f"user {user_id}"


def give_to_us(path: Path) -> str:
    """Return the advice to change the owner of a path."""
    return f"give it to the service's user (chown {os.geteuid()} {path})"
