"""What the container's cgroup says: CPU time used, memory held, processes killed for want of it.

Reads both layouts: cgroup v2 (one tree at /sys/fs/cgroup) and v1 (a folder for each controller).
"""

import functools
import os
from pathlib import Path
from typing import Final

from kernel_image import contract

TMPFS: Final = (contract.WORKSPACE, contract.HOME, "/tmp", "/dev/shm")
_FILE_BYTES: Final = 1 << 16
_ROOT: Final = Path("/sys/fs/cgroup")
_V2: Final = (_ROOT / "cgroup.controllers").exists()
_CPU: Final = _ROOT / "cpu.stat" if _V2 else _ROOT / "cpuacct/cpuacct.usage"
_MEMORY: Final = _ROOT / "memory.stat" if _V2 else _ROOT / "memory/memory.stat"
_PROCESSES: Final = _ROOT / "pids.current" if _V2 else _ROOT / "pids/pids.current"
_KILLS: Final = _ROOT / "memory.events" if _V2 else _ROOT / "memory/memory.oom_control"


@functools.cache
def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _read(path: Path) -> bytes:
    """The file's content now. It stays open: this is done several times for each cell."""
    return os.pread(_opened(path), _FILE_BYTES, 0)


def _fields(path: Path) -> dict[bytes, int]:
    return {name: int(value) for name, value in (line.split() for line in _read(path).splitlines())}


def cpu_seconds() -> float:
    """CPU time of everything in the container since its start, in seconds, kernel time included."""
    if _V2:
        return _fields(_CPU)[b"usage_usec"] / 1e6
    return int(_read(_CPU)) / 1e9


def resident_bytes() -> int:
    """Memory that can't be reclaimed: anonymous pages and tmpfs, without the page cache."""
    fields = _fields(_MEMORY)
    if _V2:
        return fields[b"anon"] + fields[b"shmem"] + fields.get(b"kernel", 0)
    return fields[b"rss"] + fields.get(b"shmem", 0)


def process_bytes() -> int:
    """Memory that processes have written to, shared mappings included, files and tmpfs not."""
    fields = _fields(_MEMORY)
    return fields[b"anon" if _V2 else b"rss"] + max(0, fields.get(b"shmem", 0) - _tmpfs_bytes())


def _tmpfs_bytes() -> int:
    """What the files in the writable folders hold."""
    used = 0
    for folder in TMPFS:
        status = os.statvfs(folder)
        used += (status.f_blocks - status.f_bfree) * status.f_frsize
    return used


def files(folder: str) -> int:
    """Files and folders in one of the writable file systems."""
    status = os.statvfs(folder)
    return status.f_files - status.f_ffree


def processes() -> int:
    """Processes and threads in the container."""
    return int(_read(_PROCESSES))


def out_of_memory_kills() -> int:
    """Processes of the container that the kernel has killed for lack of memory, since its start."""
    return _fields(_KILLS).get(b"oom_kill", 0)
