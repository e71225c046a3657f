"""Making a container as new for its caller's next execution, and being sure of it.

docs/reuse.md says what a program can leave behind and what becomes of each. Nothing here trusts
that removing has worked: at the end the container is compared with what it was before any user code
ran, and whatever differs is a reason to destroy it.
"""

import ctypes
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kernel_image import contract
from kernel_image.confinement import cgroup
from kernel_image.supervisor.killer import Killer
from kernel_image.supervisor.listeners import listeners

_QUEUES: Final = "/dev/mqueue"
_SYSV: Final = {"shm": "shmctl", "sem": "semctl", "msg": "msgctl"}
_IPC_RMID: Final = 0
_SCAN_LIMIT: Final = 5000
"""Files beyond which a new container is quicker than an empty one."""
_MEMORY_SLACK_BYTES: Final = 16 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class NotClean(Exception):
    """Something is left, or may be; the message says what."""


class Scrub:
    """Remembers the container as it is when this is made; `run` brings it back to that."""

    def __init__(self, killer: Killer, zygote: int) -> None:
        self._killer = killer
        self._zygote = zygote
        self._home = _tree(contract.HOME)
        self._tops = {folder: os.lstat(folder) for folder in cgroup.TMPFS}
        self._before = self._state()
        self._memory_before = cgroup.process_bytes()

    def run(self) -> None:
        """Remove what the user's processes, all of which have ended, left, and look whether that is all.

        Raises:
            NotClean: the container has to be destroyed.
        """
        try:
            self._empty()
            self._check()
        except (OSError, RecursionError) as error:
            raise NotClean(str(error)) from error

    # --- removing -------------------------------------------------------------------------------

    def _empty(self) -> None:
        budget = _Budget(_SCAN_LIMIT)
        for folder, before in self._tops.items():
            os.chmod(folder, 0o700)
            _empty_folder(folder, budget)
            for name in os.listxattr(folder):
                os.removexattr(folder, name)
            os.chmod(folder, stat.S_IMODE(before.st_mode))
        _plant(self._home)
        for name in _names(_QUEUES):
            os.unlink(f"{_QUEUES}/{name}")
        for kind, control in _SYSV.items():
            for identifier in _sysv_objects(kind):
                self._killer.as_user(_removal(control, identifier))

    # --- checking -------------------------------------------------------------------------------

    def _check(self) -> None:
        """Compare with what was; see `_state`."""
        for fact, value in self._state().items():
            if value != self._before[fact]:
                raise NotClean(f"{fact}: {value!r} and not {self._before[fact]!r}")
        grown = cgroup.process_bytes() - self._memory_before
        if grown > _MEMORY_SLACK_BYTES:
            raise NotClean(f"{grown} bytes of memory are held by nobody")

    def _state(self) -> dict[str, object]:
        """All that a program could have changed, as facts to compare."""
        facts: dict[str, object] = {
            "processes": sorted(name for name in _names("/proc") if name.isdigit()),
            "threads of the zygote": len(_names(f"/proc/{self._zygote}/task")),
            "limits of the zygote": Path(f"/proc/{self._zygote}/limits").read_text(),
            "message queues": _names(_QUEUES),
            "terminals": _names("/dev/pts"),
            "sockets that listen": listeners(),
            "unix sockets with a name": _named_unix_sockets(),
            "System V objects": {kind: _sysv_objects(kind) for kind in _SYSV},
            "processes killed for want of memory": cgroup.out_of_memory_kills(),
            "mounts": Path("/proc/self/mounts").read_text(),
        }
        for folder in cgroup.TMPFS:
            used = os.statvfs(folder)
            status = os.lstat(folder)
            facts[f"room in {folder}"] = (used.f_blocks - used.f_bfree, used.f_files - used.f_ffree)
            facts[f"rights of {folder}"] = (status.st_mode, status.st_uid, status.st_gid)
            facts[f"attributes of {folder}"] = os.listxattr(folder)
            facts[f"files in {folder}"] = _listing(folder)
        return facts


def _tree(folder: str) -> dict[str, tuple[int, bytes | None]]:
    """Paths below, each with its mode and, of a file, its content."""
    found: dict[str, tuple[int, bytes | None]] = {}
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            below = Path(path, name)
            content = None if name in folders else below.read_bytes()
            found[str(below)] = (stat.S_IMODE(below.lstat().st_mode), content)
    return found


def _plant(tree: dict[str, tuple[int, bytes | None]]) -> None:
    """Make what `_tree` has found; folders come before what is in them."""
    for path, (mode, content) in tree.items():
        if content is None:
            os.mkdir(path)
        else:
            Path(path).write_bytes(content)
        os.chmod(path, mode)


class _Budget:
    """How many more files may be looked at."""

    def __init__(self, entries: int) -> None:
        self._left = entries

    def spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise NotClean("too many files to remove")


def _empty_folder(folder: str, budget: _Budget) -> None:
    """Nobody else is there any more, so nothing changes on the way."""
    with os.scandir(folder) as entries:
        for entry in entries:
            budget.spend()
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o700)
                _empty_folder(entry.path, budget)
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)


def _listing(folder: str) -> list[tuple[str, int, int]]:
    found = []
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            status = os.lstat(os.path.join(path, name))
            found.append((os.path.join(path, name), status.st_mode, status.st_uid))
    return sorted(found)


def _names(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _sysv_objects(kind: str) -> list[int]:
    """Ids of the container's shared memory, semaphores or message queues of System V. See proc(5)."""
    _, *rows = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()
    return [int(row.split()[1]) for row in rows]


def _removal(control: str, identifier: int) -> Callable[[], object]:
    """The call that removes one, to be made as its owner."""
    function = getattr(_libc, control)
    if control == "semctl":
        return lambda: function(identifier, 0, _IPC_RMID)
    return lambda: function(identifier, _IPC_RMID, None)


def _named_unix_sockets() -> list[str]:
    rows = Path("/proc/net/unix").read_text().splitlines()[1:]
    return sorted(row.split()[7] for row in rows if len(row.split()) > 7)
