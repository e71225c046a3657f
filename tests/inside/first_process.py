# ruff: noqa: T201
# mypy: ignore-errors
"""Tries to change each thread of each process that is not the user's: PID 1 and the zygote.

Prints JSON: {"threads": number, "done": what succeeded, "before": state, "after": state}.
"""

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import struct
from pathlib import Path

ARM = os.uname().machine == "aarch64"
libc = ctypes.CDLL(None, use_errno=True)
SIGRTMIN = 34
STATUS = ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "Cpus_", "Mems_", "Uid", "Gid", "Cap")
SECRET = (
    *("auxv", "cwd", "environ", "exe", "fd", "fdinfo", "io", "maps", "mem", "numa_maps", "pagemap"),
    *("personality", "root", "smaps", "stack", "syscall"),
)
"""Files of a process that only the process itself may read."""


def call(x86, arm, *arguments):
    """Make a system call; raise OSError if it fails."""
    converted = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    if (result := libc.syscall(arm if ARM else x86, *converted)) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def user_of(pid):
    """Return the real uid of a process or thread."""
    return int(Path(f"/proc/{pid}/status").read_text().split("\nUid:")[1].split()[0])


def foreign_threads():
    """Return (process id, thread id) of all threads of others."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    foreign = [pid for pid in pids if user_of(pid) != os.getuid()]
    return [(pid, int(tid)) for pid in sorted(foreign) for tid in sorted(os.listdir(f"/proc/{pid}/task"))]


def state(pid, tid):
    """Return what the system shows of a thread and could be changed from outside."""
    status = Path(f"/proc/{pid}/task/{tid}/status").read_text().splitlines()
    attributes = ctypes.create_string_buffer(56)
    call(315, 275, tid, attributes, 56, 0)
    facts = [line for line in status if line.startswith(STATUS)]
    facts += [attributes.raw.hex(), call(252, 31, 1, tid), os.getpriority(os.PRIO_PROCESS, tid)]
    for name in ("limits", "oom_score_adj", "coredump_filter", "cgroup", "autogroup"):
        path = Path(f"/proc/{pid}/{name}")
        facts.append(path.read_text() if path.exists() else "")
    return facts


def information(code):
    """Return a siginfo_t as `sigqueue` sends it."""
    return struct.pack("=iiiiiiq", SIGRTMIN, 0, code, 0, os.getpid(), os.getuid(), 7).ljust(128, b"\0")


def signal_by_pidfd(pid):
    """Send a signal through a descriptor of the process."""
    descriptor = os.pidfd_open(pid)
    try:
        call(424, 424, descriptor, SIGRTMIN, information(-1), 0)
    finally:
        os.close(descriptor)


def with_pidfd(pid, x86, *arguments):
    """Make a system call that takes a descriptor of the process first."""
    descriptor = os.pidfd_open(pid)
    try:
        call(x86, x86, descriptor, *arguments)
    finally:
        os.close(descriptor)


def signal_by_input(tid):
    """Become the reason of a signal to the thread: input on a pipe that it owns. Never fails."""
    reader, writer = os.pipe()
    fcntl.fcntl(reader, 15, struct.pack("=ii", 0, tid))  # F_SETOWN_EX, F_OWNER_TID
    fcntl.fcntl(reader, 10, SIGRTMIN)  # F_SETSIG
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    for _ in range(3):
        os.write(writer, b"x")
    os.close(writer)
    os.close(reader)
    raise PermissionError(errno.EPERM, "the state shows whether the signal came")


def kill_everything():
    """Send a signal to all processes that may be signalled. It may succeed, but only for the user's."""
    signal.signal(SIGRTMIN, signal.SIG_IGN)
    os.kill(-1, SIGRTMIN)
    raise PermissionError(errno.EPERM, "the state shows whether the signal came")


def scheduling(policy, nice=0, runtime=0):
    """Return a sched_attr."""
    return struct.pack("=IIQiIQQQII", 56, policy, 0, nice, 0, runtime, 0, 0, 0, 0)


def actions(pid, tid):
    """Return all attempts upon one thread, by name."""
    pages = (ctypes.c_void_p * 1)(0x1000)
    mask = struct.pack("=Q", 1)
    group = os.getpgid(pid)
    limit = struct.pack("=QQ", 100, 100)
    parameter = struct.pack("=i", 0)
    buffer = ctypes.create_string_buffer(64)
    vector = struct.pack("=QQ", ctypes.addressof(buffer), 64)
    words = (ctypes.c_ulong * 4)()
    found = {
        "kill": lambda: os.kill(pid, SIGRTMIN),
        "kill a thread": lambda: os.kill(tid, SIGRTMIN),
        "kill everything": kill_everything,
        "tkill": lambda: call(200, 130, tid, SIGRTMIN),
        "tgkill": lambda: call(234, 131, pid, tid, SIGRTMIN),
        "rt_sigqueueinfo": lambda: call(129, 138, pid, SIGRTMIN, information(-1)),
        "rt_sigqueueinfo to a thread": lambda: call(129, 138, tid, SIGRTMIN, information(-1)),
        "rt_tgsigqueueinfo": lambda: call(297, 240, pid, tid, SIGRTMIN, information(-1)),
        "pidfd_send_signal": lambda: signal_by_pidfd(pid),
        "a signal by input": lambda: signal_by_input(tid),
        "a signal by a timer": lambda: call(
            222, 107, 0, struct.pack("=qiii44x", 7, SIGRTMIN, 4, tid), buffer
        ),
        "sched_setscheduler": lambda: call(144, 119, tid, os.SCHED_BATCH, parameter),
        "sched_setscheduler idle": lambda: call(144, 119, tid, os.SCHED_IDLE, parameter),
        "sched_setscheduler reset on fork": lambda: call(144, 119, tid, 0x40000000, parameter),
        "sched_setparam": lambda: call(142, 118, tid, parameter),
        "sched_setattr": lambda: call(314, 274, tid, scheduling(0, 5), 0),
        "sched_setattr slice": lambda: call(314, 274, tid, scheduling(0, 0, 50_000_000), 0),
        "sched_setaffinity": lambda: call(203, 122, tid, 8, mask),
        "setpriority": lambda: os.setpriority(os.PRIO_PROCESS, tid, 10),
        "setpriority of a group": lambda: os.setpriority(os.PRIO_PGRP, group, 10),
        "ioprio_set": lambda: call(251, 30, 1, tid, 3 << 13),
        "ioprio_set of a group": lambda: call(251, 30, 2, group, 3 << 13),
        "prlimit": lambda: call(302, 261, tid, resource.RLIMIT_NOFILE, limit, None),
        "prlimit to read": lambda: call(302, 261, tid, resource.RLIMIT_NOFILE, None, buffer),
        "ptrace": lambda: call(101, 117, 16, tid, 0, 0),
        "ptrace seize": lambda: call(101, 117, 0x4206, tid, 0, 0),
        "process_vm_readv": lambda: call(310, 270, tid, vector, 1, vector, 1, 0),
        "process_vm_writev": lambda: call(311, 271, tid, vector, 1, vector, 1, 0),
        "move_pages": lambda: call(279, 239, tid, 1, pages, None, buffer, 0),
        "migrate_pages": lambda: call(256, 238, tid, 64, words, words),
        "get_robust_list": lambda: call(274, 100, tid, buffer, vector),
        "kcmp": lambda: call(312, 272, tid, os.getpid(), 0, 0, 0),
        "pidfd_getfd": lambda: with_pidfd(pid, 438, 0, 0),
        "process_madvise": lambda: with_pidfd(pid, 440, vector, 1, 20, 0),
        "process_mrelease": lambda: with_pidfd(pid, 448, 0),
        "setns": lambda: call(308, 268, os.pidfd_open(pid), 0x20000000),
        "setpgid": lambda: os.setpgid(pid, os.getpgrp()),
        "join its group": lambda: os.setpgid(0, group),
        "core scheduling": lambda: checked(libc.prctl(62, 2, tid, 0, 0)),
        "perf_event_open": lambda: call(298, 241, bytes(128), tid, -1, -1, 0),
    }
    for name in SECRET:
        found[f"read {name}"] = lambda name=name: read(f"/proc/{pid}/task/{tid}/{name}")
        found[f"read {name} of the process"] = lambda name=name: read(f"/proc/{pid}/{name}")
    for folder in (f"/proc/{pid}", f"/proc/{pid}/task/{tid}"):
        for name in os.listdir(folder):
            if not os.path.isdir(f"{folder}/{name}"):
                found[f"write {folder}/{name}"] = lambda path=f"{folder}/{name}": write(path)
    return found


def checked(result):
    """Return a C function's result; raise OSError if it failed."""
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read(path):
    """Read a file, a folder or a link."""
    if os.path.islink(path):
        return os.readlink(path)
    return os.listdir(path) if os.path.isdir(path) else Path(path).read_bytes()[:10]


def write(path):
    """Write a number to a file."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, b"0")
    finally:
        os.close(descriptor)


def by_user(uid):
    """Return attempts upon all threads of a user, by name."""
    return {
        f"setpriority of user {uid}": lambda: os.setpriority(os.PRIO_USER, uid, 10),
        f"ioprio_set of user {uid}": lambda: call(251, 30, 3, uid, 3 << 13),
    }


def attempt(name, action):
    """Add the action's name to `done` unless it fails."""
    try:
        action()
    except (OSError, ValueError):
        return
    done.append(name)


done = []
threads = foreign_threads()
before = [state(*thread) for thread in threads]
for thread in threads:
    for name, action in actions(*thread).items():
        attempt(f"{name} {thread}", action)
for uid in {user_of(tid) for _, tid in threads} | {user_of(1)}:
    for name, action in by_user(uid).items():
        attempt(name, action)
for process in Path("/sys/fs/cgroup").rglob("cgroup.procs"):
    attempt(f"write {process}", lambda process=process: process.write_text("1"))
    attempt(f"write {process}", lambda process=process: process.write_text(str(os.getpid())))
after = [state(*thread) for thread in threads]
print(json.dumps({"threads": len(threads), "done": done, "before": before, "after": after}))
