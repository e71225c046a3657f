"""State of the threads of PID 1 and of the zygote that other processes could change.

User code has no right to change any of it. So a difference means that a defence has failed.
"""

import ctypes
import os
import platform
import re
import signal
from typing import Final

from kernel_image.confinement.libc import checked, libc

_SYS_SCHED_GETATTR: Final = {"x86_64": 315, "aarch64": 275}
_SYS_IOPRIO_GET: Final = {"x86_64": 252, "aarch64": 31}
_IOPRIO_WHO_PROCESS: Final = 1
_SCHED_ATTR_BYTES: Final = 56
_PROCESS_FILES: Final = ("limits", "oom_score_adj", "coredump_filter", "cgroup", "autogroup")
_STATUS_LINES: Final = re.compile(
    r"^(?:Uid|Gid|Groups|Sig|Shd|Cap|NoNewPrivs|Seccomp|Cpus_allowed|Mems_allowed)\w*:.*\n", re.MULTILINE
)
_PENDING: Final = re.compile(r"(?<=Pnd:\t)\w+")
_SIGQ: Final = re.compile(r"^SigQ:.*\n", re.MULTILINE)
"""The number of signals queued to all processes of a user of the machine."""


def thread_states(pid: int) -> dict[str, object]:
    """Return the signals, scheduling, credentials and limits of a process and of each of its threads.

    Raises:
        OSError: the process has ended, or a fact cannot be read.
    """
    folder = f"/proc/{pid}"
    present = [name for name in _PROCESS_FILES if os.path.exists(f"{folder}/{name}")]
    facts: dict[str, object] = {name: _read(f"{folder}/{name}") for name in present}
    for tid in os.listdir(f"{folder}/task"):
        status = _read(f"{folder}/task/{tid}/status")
        lines = "".join(_STATUS_LINES.findall(_SIGQ.sub("", status)))
        facts[tid] = (_PENDING.sub(_without_child_signal, lines), *_scheduling(int(tid)))
    return facts


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _without_child_signal(pending: re.Match[str]) -> str:
    """Return a set of pending signals without SIGCHLD: a child may end at any moment."""
    return hex(int(pending[0], 16) & ~(1 << (signal.SIGCHLD - 1)))


def _scheduling(tid: int) -> tuple[str, int, list[int]]:
    """Return a thread's policy, priorities and nice value as `sched_attr`; its I/O priority; its CPUs."""
    machine = platform.machine()
    attributes = ctypes.create_string_buffer(_SCHED_ATTR_BYTES)
    number = _SYS_SCHED_GETATTR[machine]
    checked(libc.syscall(number, tid, attributes, _SCHED_ATTR_BYTES, 0), "sched_getattr")
    io_priority = libc.syscall(_SYS_IOPRIO_GET[machine], _IOPRIO_WHO_PROCESS, tid)
    return attributes.raw.hex(), io_priority, sorted(os.sched_getaffinity(tid))
