"""Scrubbing: bringing a used container back to its first state, and proving that it is there.

docs/reuse.md lists what a program can leave behind and what happens to each. Nothing here trusts
that removing has worked: at the end the container is compared with its state before any user code
ran. Any difference is a reason to destroy the container.
"""

import os
import time
from functools import partial
from pathlib import Path
from typing import Final

from kernel_image import contract
from kernel_image.confinement import cgroup
from kernel_image.supervisor.process_killer import ProcessKiller
from kernel_image.supervisor.scrub import sockets, system_v
from kernel_image.supervisor.scrub.inodes import Inodes
from kernel_image.supervisor.scrub.not_clean import NotClean
from kernel_image.supervisor.scrub.threads import thread_states

_QUEUES: Final = "/dev/mqueue"
_ENTRY_LIMIT: Final = 5000
"""Most files to remove. With more, starting a new container is faster."""
_CLOSING_SEC: Final = 0.4
_MEMORY_SLACK_BYTES: Final = 16 << 20


class Scrub:
    """Remembers the container's state when it is created; `run` restores that state.

    Created before the first kernel starts.
    """

    def __init__(self, killer: ProcessKiller, zygote_pid: int, uid: int) -> None:
        self._killer = killer
        self._pids = (os.getpid(), zygote_pid)
        self._home = _read_tree(contract.HOME)
        self._before = self._state()
        self._system_v_ids = {kind: system_v.take_id(kind) for kind in system_v.KINDS}
        self._memory_before = cgroup.process_bytes()
        self._inodes = Inodes(uid, (*contract.WRITABLE_FOLDERS, *self._home))

    def run(self) -> None:
        """Remove everything that user code left, and check that nothing is left. All processes have ended.

        Raises:
            NotClean: the container has to be destroyed.
        """
        try:
            self._remove_all()
            self._check()
            # Last, because removing and listing change times.
            self._inodes.restore()
        except (OSError, RecursionError) as error:
            raise NotClean(f"scrubbing failed with {type(error).__name__}", error) from error

    # --- removing -------------------------------------------------------------------------------

    def _remove_all(self) -> None:
        counter = _EntryCounter(_ENTRY_LIMIT)
        for folder in contract.WRITABLE_FOLDERS:
            os.chmod(folder, 0o700)
            _empty_folder(folder, counter)
            # Attributes take room, and one of them decides on the modes of new files.
            self._inodes.remove_attributes(folder)
        _write_tree(self._home)
        for name in _list_names(_QUEUES):
            os.unlink(f"{_QUEUES}/{name}")
        for kind in system_v.KINDS:
            for identifier in system_v.object_ids(kind):
                # Only the owner may remove it.
                self._killer.call_as_user(partial(system_v.remove, kind, identifier))

    # --- checking -------------------------------------------------------------------------------

    def _check(self) -> None:
        """Compare the container with its first state, but for its inodes.

        Raises:
            NotClean: a fact differs, or memory has grown.
        """
        now = self._state()
        if now["sockets"] != self._before["sockets"]:
            now["sockets"] = self._sockets_after_closing()
        for fact in self._before | now:
            if now.get(fact) != self._before.get(fact):
                raise NotClean(fact, f"{now.get(fact)!r} instead of {self._before.get(fact)!r}")
        for kind, previous in self._system_v_ids.items():
            self._system_v_ids[kind] = identifier = system_v.take_id(kind)
            if not system_v.is_next(identifier, previous):
                raise NotClean("System V objects were created", f"{kind} {identifier} follows {previous}")
        grown = cgroup.process_bytes() - self._memory_before
        if grown > _MEMORY_SLACK_BYTES:
            raise NotClean("memory is still held after all processes have ended", f"{grown} bytes")

    def _sockets_after_closing(self) -> object:
        """Return the sockets. Linux may take a moment to close those of processes that have ended."""
        deadline = time.monotonic() + _CLOSING_SEC
        while (found := sockets.internet_sockets()) != self._before["sockets"]:
            if time.monotonic() > deadline:
                break
            time.sleep(_CLOSING_SEC / 20)
        return found

    def _state(self) -> dict[str, object]:
        """Return everything that a program could have changed, as facts to compare."""
        facts: dict[str, object] = {
            "processes": sorted(name for name in _list_names("/proc") if name.isdigit()),
            "message queues": _list_names(_QUEUES),
            "terminals": _list_names("/dev/pts"),
            "sockets": sockets.internet_sockets(),
            "named Unix sockets": sockets.named_unix_sockets(),
            "IPv6 flow labels": sockets.flow_labels(),
            "System V objects": {kind: system_v.object_ids(kind) for kind in system_v.KINDS},
            "out-of-memory kills": cgroup.out_of_memory_kills(),
            "mounts": Path("/proc/self/mounts").read_text(),
        }
        for pid in self._pids:
            facts |= {f"{name} of process {pid}": state for name, state in thread_states(pid).items()}
        for folder in contract.WRITABLE_FOLDERS:
            used = os.statvfs(folder)
            facts[f"space used in {folder}"] = (used.f_blocks - used.f_bfree, used.f_files - used.f_ffree)
            facts[f"files in {folder}"] = _list_tree(folder)
        return facts


def _read_tree(folder: str) -> dict[str, bytes | None]:
    """Return all paths beneath a folder, each with its content; None for a folder."""
    found: dict[str, bytes | None] = {}
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            entry = Path(path, name)
            found[str(entry)] = None if name in folders else entry.read_bytes()
    return found


def _write_tree(tree: dict[str, bytes | None]) -> None:
    """Create what `_read_tree` has found. A folder comes before its content."""
    for path, content in tree.items():
        if content is None:
            os.mkdir(path)
        else:
            Path(path).write_bytes(content)


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


def _list_tree(folder: str) -> list[str]:
    """Return the paths of everything beneath a folder, sorted."""
    return sorted(f"{path}/{name}" for path, folders, files in os.walk(folder) for name in (*folders, *files))


def _list_names(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []
