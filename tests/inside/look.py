# ruff: noqa: T201
# mypy: ignore-errors
"""Looks for anything that an earlier program may have left. Prints facts as JSON."""

import fcntl
import json
import os
import random
import re
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from pathlib import Path

import IPython

FOLDERS = (
    "/workspace",
    "/tmp",
    os.path.expanduser("~"),
    "/dev/shm",
    "/dev/mqueue",
    "/dev/pts",
    "/var/tmp",
    "/run",
)


def text(path):
    """Return a file's content, or the name of the error."""
    try:
        return Path(path).read_text()
    except OSError as error:
        return type(error).__name__


def below(folder):
    """Return path, mode, owner and size of everything beneath a folder."""
    found = []
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            status = os.lstat(os.path.join(path, name))
            size = 0 if os.path.isdir(os.path.join(path, name)) else status.st_size
            found.append([os.path.join(path, name), status.st_mode, status.st_uid, size])
    return sorted(found)


def flags(folder):
    """Return the flags of a folder, see chattr(1)."""
    try:
        return fcntl.ioctl(os.open(folder, os.O_RDONLY), 0x80086601, bytes(8)).hex()
    except OSError as error:
        return type(error).__name__


def changeable(*tops):
    """Return path, mode, owner and time of all inodes in folders that this user may change."""
    found = []
    for top in tops:
        for path, folders, files in os.walk(top):
            skipped = ("/dev/shm", f"/proc/{os.getpid()}", f"{path}/fdinfo")
            folders[:] = [name for name in folders if f"{path}/{name}" not in skipped]
            hidden = [f"ns/{name}" for name in os.listdir("/proc/self/ns") if "ns" in folders]
            for name in (*folders, *files, *hidden):
                status = os.lstat(f"{path}/{name}")
                if status.st_mode & 0o2 or status.st_uid == os.getuid():
                    found.append([f"{path}/{name}", status.st_mode, status.st_uid, status.st_mtime_ns])
    return sorted(found)


def refused_ports():
    """Return the ports that cannot be bound."""
    found = []
    for port in (*range(5555, 5558), *range(5600, 5620), *range(5700, 5720)):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError as error:
                found.append([port, str(error)])
    return found


def standard_input():
    """Return the flags of standard input, and whether its device can be locked."""
    with open("/dev/null") as device:
        try:
            fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return type(error).__name__
    return fcntl.fcntl(0, fcntl.F_GETFL)


def commands():
    """Return the command lines of all other processes."""
    pids = [name for name in os.listdir("/proc") if name.isdigit() and name != str(os.getpid())]
    return sorted(text(f"/proc/{pid}/cmdline").replace("\0", " ") for pid in pids)


def listening():
    """Return the local addresses of listening sockets. Randomly chosen ports are masked."""
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6", "raw"):
        rows = [line.split() for line in text(f"/proc/net/{table}").splitlines()[1:]]
        found += [row[1] for row in rows if len(row) > 3 and (row[3] == "0A" or "tcp" not in table)]
    return sorted(re.sub("^(0[0-9A-F]00007F):[8-F]...$", r"\1", address) for address in found)


def own_status():
    """Return the lines of the process status that are the same for every kernel."""
    names = ("Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp", "Sig", "Shd", "Umask", "Threads")
    return [line for line in text("/proc/self/status").splitlines() if line.startswith(names)]


shell = IPython.get_ipython()
disk = os.stat("/tmp").st_dev
facts = {
    "files": {folder: below(folder) for folder in FOLDERS},
    "folders": {
        folder: [
            os.stat(folder).st_mode,
            os.stat(folder).st_uid,
            os.stat(folder).st_gid,
            os.listxattr(folder),
            # The kernel itself writes the file of this program into /tmp.
            None if folder == "/tmp" else os.stat(folder).st_mtime_ns,
            os.stat(folder).st_atime > time.time(),
            flags(folder),
        ]
        for folder in FOLDERS
        if os.path.isdir(folder)
    },
    "room": {folder: [os.statvfs(folder).f_bfree, os.statvfs(folder).f_ffree] for folder in FOLDERS[:4]},
    "inodes of the machine": changeable("/dev", "/proc"),
    "ports in use": refused_ports(),
    "standard input": standard_input(),
    "commands": commands(),
    "listening": listening(),
    "unix sockets": sorted(
        line.split()[7] for line in text("/proc/net/unix").splitlines() if len(line.split()) > 7
    ),
    "System V": [text(f"/proc/sysvipc/{kind}") for kind in ("shm", "sem", "msg")],
    # Keys of the machine's root are left out: their number changes all the time.
    "keys": [text("/proc/keys"), re.sub(r"(?m)^ *0:.*\n", "", text("/proc/key-users"))],
    "locks": text("/proc/locks").count(f" {os.major(disk):02x}:{os.minor(disk):02x}:"),
    "mounts": text("/proc/self/mounts"),
    "status": own_status(),
    "limits": {
        name: resource.getrlimit(getattr(resource, name))
        for name in dir(resource)
        if name.startswith("RLIMIT_")
    },
    "niceness": [os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0))],
    "timers": [
        signal.getitimer(timer) for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
    ],
    "handlers": [str(signal.getsignal(number)).split(" at ")[0] for number in sorted(signal.valid_signals())],
    "environment": dict(os.environ),
    "place": [os.getcwd(), sys.path, sys.argv, sys.getrecursionlimit(), sys.flags],
    "modules": sorted(sys.modules),
    "own modules": [hasattr(json, "left"), hasattr(warnings, "left")],
    "names": sorted(name for name in globals() if name != "facts"),
    "threads": sorted(thread.name for thread in threading.enumerate()),
    "shell": [shell.execution_count, list(shell.user_ns["Out"]), list(shell.user_ns["In"])[:-1]],
    "seeded": random.random() == random.Random(1).random(),
    "descriptors": len(os.listdir("/proc/self/fd")),
}
print(json.dumps(facts, sort_keys=True))
