"""Resource use of the container, as its cgroup and its file systems report it.

Reads both layouts: cgroup v2 (one tree at /sys/fs/cgroup) and v1 (a folder for each controller).
"""

import functools
import os
import time
from pathlib import Path
from typing import Final

from kernel_image import contract

_FILE_BYTES: Final = 1 << 16
_ROOT: Final = Path("/sys/fs/cgroup")
_V2: Final = (_ROOT / "cgroup.controllers").exists()
_CPU: Final = _ROOT / "cpu.stat" if _V2 else _ROOT / "cpuacct/cpuacct.usage"
_MEMORY: Final = _ROOT / "memory.stat" if _V2 else _ROOT / "memory/memory.stat"
_PROCESSES: Final = _ROOT / "pids.current" if _V2 else _ROOT / "pids/pids.current"
_KILLS: Final = _ROOT / "memory.events" if _V2 else _ROOT / "memory/memory.oom_control"


@functools.cache
def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _read(path: Path) -> bytes:
    """Return the file's present content. The file stays open, because each cell reads it several times."""
    return os.pread(_open(path), _FILE_BYTES, 0)


def _fields(path: Path) -> dict[bytes, int]:
    return {name: int(value) for name, value in (line.split() for line in _read(path).splitlines())}


def cpu_seconds() -> float:
    """Return the CPU time, user and system, of all processes in the container since its start, in seconds."""
    if _V2:
        return _fields(_CPU)[b"usage_usec"] / 1e6
    return int(_read(_CPU)) / 1e9


def user_cpu_seconds() -> float:
    """Return the CPU time of the container, in seconds, without that of this process: the supervisor."""
    return cpu_seconds() - time.process_time()


def resident_bytes() -> int:
    """Return the memory that cannot be reclaimed: anonymous pages and tmpfs, without the page cache."""
    fields = _fields(_MEMORY)
    if _V2:
        return fields[b"anon"] + fields[b"shmem"] + fields.get(b"kernel", 0)
    return fields[b"rss"] + fields.get(b"shmem", 0)


def process_bytes() -> int:
    """Return the memory that processes have written to: shared mappings included, tmpfs files not."""
    fields = _fields(_MEMORY)
    return fields[b"anon" if _V2 else b"rss"] + max(0, fields.get(b"shmem", 0) - _tmpfs_bytes())


def _tmpfs_bytes() -> int:
    used = 0
    for folder in contract.WRITABLE_FOLDERS:
        status = os.statvfs(folder)
        used += (status.f_blocks - status.f_bfree) * status.f_frsize
    return used


def count_files(folder: str) -> int:
    """Return the number of files and folders in the file system at `folder`, one of the writable ones."""
    status = os.statvfs(folder)
    return status.f_files - status.f_ffree


def count_processes() -> int:
    """Return the number of processes and threads in the container."""
    return int(_read(_PROCESSES))


def out_of_memory_kills() -> int:
    """Return how many of the container's processes the out-of-memory killer has ended since its start."""
    return _fields(_KILLS).get(b"oom_kill", 0)
