"""Scrubbing: bringing a used container back to its first state, and proving that it is there.

docs/reuse.md lists what a program can leave behind and what happens to each. Nothing here trusts
that removing has worked: at the end the container is compared with its state before any user code
ran. Any difference is a reason to destroy the container.
"""

import ctypes
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kernel_image import contract
from kernel_image.confinement import cgroup
from kernel_image.supervisor.listening_sockets import listening_sockets
from kernel_image.supervisor.process_killer import ProcessKiller

_QUEUES: Final = "/dev/mqueue"
_SYSV_CALLS: Final = {"shm": "shmctl", "sem": "semctl", "msg": "msgctl"}
_IPC_RMID: Final = 0
_ENTRY_LIMIT: Final = 5000
"""Most files to remove. With more, starting a new container is faster."""
_MEMORY_SLACK_BYTES: Final = 16 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class NotClean(Exception):
    """The container is not in its first state, or that is uncertain; the message says why."""


class Scrub:
    """Remembers the container's state when it is created; `run` restores that state.

    Created before the first kernel starts.
    """

    def __init__(self, killer: ProcessKiller, zygote_pid: int) -> None:
        self._killer = killer
        self._zygote_pid = zygote_pid
        self._home = _read_tree(contract.HOME)
        self._tops = {folder: os.lstat(folder) for folder in contract.WRITABLE_FOLDERS}
        self._before = self._state()
        self._memory_before = cgroup.process_bytes()

    def run(self) -> None:
        """Remove everything that user code left, and check that nothing is left. All processes have ended.

        Raises:
            NotClean: the container has to be destroyed.
        """
        try:
            self._remove_all()
            self._check()
        except (OSError, RecursionError) as error:
            raise NotClean(str(error)) from error

    # --- removing -------------------------------------------------------------------------------

    def _remove_all(self) -> None:
        counter = _EntryCounter(_ENTRY_LIMIT)
        for folder, before in self._tops.items():
            os.chmod(folder, 0o700)
            _empty_folder(folder, counter)
            for name in os.listxattr(folder):
                os.removexattr(folder, name)
            os.chmod(folder, stat.S_IMODE(before.st_mode))
        _write_tree(self._home)
        for name in _list_names(_QUEUES):
            os.unlink(f"{_QUEUES}/{name}")
        for kind, function in _SYSV_CALLS.items():
            for identifier in _sysv_ids(kind):
                # Only the owner may remove it.
                self._killer.call_as_user(_removal(function, identifier))

    # --- checking -------------------------------------------------------------------------------

    def _check(self) -> None:
        """Compare the container with its first state.

        Raises:
            NotClean: a fact differs, or memory has grown.
        """
        for fact, value in self._state().items():
            if value != self._before[fact]:
                raise NotClean(f"{fact}: {value!r} instead of {self._before[fact]!r}")
        grown = cgroup.process_bytes() - self._memory_before
        if grown > _MEMORY_SLACK_BYTES:
            raise NotClean(f"{grown} bytes of memory are still held after all processes have ended")

    def _state(self) -> dict[str, object]:
        """Return everything that a program could have changed, as facts to compare."""
        facts: dict[str, object] = {
            "processes": sorted(name for name in _list_names("/proc") if name.isdigit()),
            "threads of the zygote": len(_list_names(f"/proc/{self._zygote_pid}/task")),
            "limits of the zygote": Path(f"/proc/{self._zygote_pid}/limits").read_text(),
            "message queues": _list_names(_QUEUES),
            "terminals": _list_names("/dev/pts"),
            "listening sockets": listening_sockets(),
            "named Unix sockets": _named_unix_sockets(),
            "System V objects": {kind: _sysv_ids(kind) for kind in _SYSV_CALLS},
            "out-of-memory kills": cgroup.out_of_memory_kills(),
            "mounts": Path("/proc/self/mounts").read_text(),
        }
        for folder in contract.WRITABLE_FOLDERS:
            used = os.statvfs(folder)
            status = os.lstat(folder)
            facts[f"space used in {folder}"] = (used.f_blocks - used.f_bfree, used.f_files - used.f_ffree)
            facts[f"rights of {folder}"] = (status.st_mode, status.st_uid, status.st_gid)
            facts[f"attributes of {folder}"] = os.listxattr(folder)
            facts[f"files in {folder}"] = _list_tree(folder)
        return facts


def _read_tree(folder: str) -> dict[str, tuple[int, bytes | None]]:
    """Return all paths beneath a folder, each with its mode and its content; None for a folder."""
    found: dict[str, tuple[int, bytes | None]] = {}
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            entry = Path(path, name)
            content = None if name in folders else entry.read_bytes()
            found[str(entry)] = (stat.S_IMODE(entry.lstat().st_mode), content)
    return found


def _write_tree(tree: dict[str, tuple[int, bytes | None]]) -> None:
    """Create what `_read_tree` has found. A folder comes before its content."""
    for path, (mode, content) in tree.items():
        if content is None:
            os.mkdir(path)
        else:
            Path(path).write_bytes(content)
        os.chmod(path, mode)


class _EntryCounter:
    """Counts removed entries and refuses when there are too many."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise NotClean("too many files to remove")


def _empty_folder(folder: str, counter: _EntryCounter) -> None:
    """Remove everything in a folder. No process of the user lives, so nothing changes meanwhile."""
    with os.scandir(folder) as entries:
        for entry in entries:
            counter.count()
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o700)
                _empty_folder(entry.path, counter)
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)


def _list_tree(folder: str) -> list[tuple[str, int, int]]:
    """Return path, mode and owner of everything beneath a folder, sorted."""
    found = []
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            status = os.lstat(os.path.join(path, name))
            found.append((os.path.join(path, name), status.st_mode, status.st_uid))
    return sorted(found)


def _list_names(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _sysv_ids(kind: str) -> list[int]:
    """Return the ids of the container's System V objects of one kind: shm, sem or msg. See proc(5)."""
    _, *rows = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()
    return [int(row.split()[1]) for row in rows]


def _removal(name: str, identifier: int) -> Callable[[], object]:
    """Return a function that removes one System V object with the C library's function `name`."""
    function = getattr(_libc, name)
    if name == "semctl":
        return lambda: function(identifier, 0, _IPC_RMID)
    return lambda: function(identifier, _IPC_RMID, None)


def _named_unix_sockets() -> list[str]:
    rows = Path("/proc/net/unix").read_text().splitlines()[1:]
    return sorted(row.split()[7] for row in rows if len(row.split()) > 7)
