"""The container's folders and limits, where its engine has not seen to them: Docker has, Kubernetes can't."""

import os
import resource
from typing import Final

from kernel_image import contract
from kernel_image.confinement import cgroup

_STICKY: Final = ("/tmp", "/dev/shm")
_ENGINE_FILES: Final = ("/dev/termination-log",)
"""Files of the machine's disk that are mounted for anybody to write to."""
_OPEN_FILES: Final = 4096


def make_the_users() -> None:
    """Let the writable folders belong to the user, and nothing else that is root's be writable.

    Needs CHOWN where a folder is not the user's already.
    """
    for folder in cgroup.TMPFS:
        if os.stat(folder).st_uid != contract.USER_ID:
            # In this order: who no longer owns it may not change its mode.
            os.chmod(folder, 0o1777 if folder in _STICKY else 0o755)
            os.chown(folder, contract.USER_ID, contract.USER_ID)
    for path in _ENGINE_FILES:
        if os.path.exists(path):
            os.chmod(path, 0o600)


def limit_resources() -> None:
    """Lower this process's limits, and so everybody's here: no core files, so many open files.

    Files may be larger than any disk holds, so that a full one says so.
    """
    largest_file = sum(_size(folder) for folder in (contract.WORKSPACE, "/tmp"))
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_FSIZE, largest_file),
    ):
        hard = resource.getrlimit(limit)[1]
        lowered = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (lowered, lowered))


def _size(folder: str) -> int:
    status = os.statvfs(folder)
    return status.f_blocks * status.f_frsize
