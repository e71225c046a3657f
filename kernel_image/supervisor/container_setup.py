"""The container's folders and limits, for engines that cannot set them: Docker can, Kubernetes cannot."""

import os
import resource
from typing import Final

from kernel_image import contract

_ENGINE_FILES: Final = ("/dev/termination-log",)
"""Files on the machine's disk that the engine mounts with write access for every user."""


def give_folders_to(user_id: int) -> None:
    """Make the user `user_id` own the writable folders, and close files of the engine to the user.

    Needs CAP_CHOWN if the user does not own a folder yet.
    """
    for folder, mode in contract.WRITABLE_FOLDERS.items():
        if os.stat(folder).st_uid != user_id:
            # The mode comes first, because only the owner may change it.
            os.chmod(folder, mode)
            os.chown(folder, user_id, user_id)
    for path in _ENGINE_FILES:
        if os.path.exists(path):
            os.chmod(path, 0o600)


def set_resource_limits() -> None:
    """Lower the resource limits of this process and of all its later children.

    No process may dump core. A file may be larger than any of the file systems, so that a write to a
    full one fails with ENOSPC.
    """
    largest_file = sum(_size_bytes(folder) for folder in (contract.WORKSPACE, "/tmp"))
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, contract.OPEN_FILES),
        (resource.RLIMIT_FSIZE, largest_file),
    ):
        hard = resource.getrlimit(limit)[1]
        lowered = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (lowered, lowered))


def _size_bytes(folder: str) -> int:
    status = os.statvfs(folder)
    return status.f_blocks * status.f_frsize
