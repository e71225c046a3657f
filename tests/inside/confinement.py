# ruff: noqa: T201
"""Finds out what user code may do in its own container. Prints the facts as JSON."""

import ctypes
import json
import os
import pathlib
import resource
import signal
import socket
from collections.abc import Callable
from typing import Any

SUPERVISOR_PORT = 8700
PTRACE_ATTACH, CLONE_NEWUSER = 16, 0x10000000


def outcome(action: Callable[[], Any]) -> str:
    """Try an action; return `done`, or the name of the error."""
    try:
        action()
    except (OSError, ValueError) as error:
        return type(error).__name__
    return "done"


def system_call(name: str, *arguments: Any) -> Callable[[], None]:
    """Return a call of the C library that raises OSError if it fails."""

    def call() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if getattr(libc, name)(*arguments) == -1:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    return call


def overwrite(path: str) -> Callable[[], None]:
    """Return an action that opens an existing file for writing, without changing it."""

    def call() -> None:
        os.close(os.open(path, os.O_WRONLY))

    return call


def make(folder: str) -> Callable[[], None]:
    """Return an action that makes a file and removes it."""

    def call() -> None:
        path = pathlib.Path(folder, f"made-by-a-test-{os.getpid()}")
        path.write_text("x")
        path.unlink()

    return call


def read(path: str) -> Callable[[], None]:
    """Return an action that opens a file and reads its first byte."""

    def call() -> None:
        with open(path, "rb") as file:
            file.read(1)

    return call


def visible_text() -> str:
    """Return the environment and the command line of every process that can be read."""
    found = [json.dumps(dict(os.environ))]
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        for name in ("environ", "cmdline"):
            try:
                found.append((process / name).read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return "\n".join(found)


def supervisor_sockets_held() -> list[str]:
    """Return this process's descriptors that are sockets of the supervisor's port."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not os.path.exists(table):
            continue
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if int(words[1].split(":")[1], 16) == SUPERVISOR_PORT:
                inodes.add(f"socket:[{words[9]}]")
    held = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            held.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    return sorted(inodes & set(held))


def space(folder: str) -> dict[str, Any]:
    """Return size in bytes, inodes and mount options of the file system at a folder."""
    stat = os.statvfs(folder)
    options = [
        line.split()[3]
        for line in pathlib.Path("/proc/mounts").read_text().splitlines()
        if line.split()[1] == folder
    ]
    return {
        "bytes": stat.f_blocks * stat.f_frsize,
        "inodes": stat.f_files,
        "options": options[-1].split(",") if options else [],
        "write": outcome(make(folder)),
    }


status = dict(
    line.split(":\t", 1)
    for line in pathlib.Path("/proc/self/status").read_text().splitlines()
    if ":\t" in line
)
home = str(pathlib.Path.home())
libraries = os.path.dirname(os.path.dirname(json.__file__))
facts = {
    "status": {name: value.strip() for name, value in status.items()},
    "environment": dict(os.environ),
    "visible": visible_text(),
    "supervisor_sockets": supervisor_sockets_held(),
    "hard_limits": {
        "core": resource.getrlimit(resource.RLIMIT_CORE)[1],
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "file_size": resource.getrlimit(resource.RLIMIT_FSIZE)[1],
    },
    "root_options": space("/")["options"],
    "spaces": {name: space(name) for name in ("/workspace", "/tmp", home, "/dev/shm")},
    "docker_sockets": [path for path in ("/var/run/docker.sock", "/run/docker.sock") if os.path.exists(path)],
    "devices": sorted(os.listdir("/dev")),
    "refused": {
        "write to /": outcome(make("/")),
        "write to /etc": outcome(make("/etc")),
        "write to /usr/lib": outcome(make("/usr/lib")),
        "write to /var": outcome(make("/var")),
        "write to the library": outcome(make(libraries)),
        "change /etc/passwd": outcome(overwrite("/etc/passwd")),
        "change core_pattern": outcome(overwrite("/proc/sys/kernel/core_pattern")),
        "change sysrq-trigger": outcome(overwrite("/proc/sysrq-trigger")),
        "write to the cgroup": outcome(make("/sys/fs/cgroup")),
        "read environ of PID 1": outcome(read("/proc/1/environ")),
        "read memory of PID 1": outcome(read("/proc/1/mem")),
        "read maps of PID 1": outcome(read("/proc/1/maps")),
        "list descriptors of PID 1": outcome(lambda: os.listdir("/proc/1/fd")),
        "follow root of PID 1": outcome(lambda: os.listdir("/proc/1/root/")),
        "signal PID 1": outcome(lambda: os.kill(1, 0)),
        "end PID 1": outcome(lambda: os.kill(1, signal.SIGKILL)),
        "trace PID 1": outcome(system_call("ptrace", PTRACE_ATTACH, 1, 0, 0)),
        "signal the parent": outcome(lambda: os.kill(os.getppid(), 0)),
        "read environ of the parent": outcome(read(f"/proc/{os.getppid()}/environ")),
        "read memory of the parent": outcome(read(f"/proc/{os.getppid()}/mem")),
        "trace the parent": outcome(system_call("ptrace", PTRACE_ATTACH, os.getppid(), 0, 0)),
        "become root": outcome(lambda: os.setuid(0)),
        "become another": outcome(lambda: os.setresuid(1001, 1001, 1001)),
        "join a group": outcome(lambda: os.setgroups([0])),
        "mount": outcome(system_call("mount", b"none", b"/tmp", b"tmpfs", 0, None)),
        "new user namespace": outcome(system_call("unshare", CLONE_NEWUSER)),
        "change root": outcome(system_call("chroot", b"/tmp")),
        "make a device": outcome(lambda: os.mknod("/tmp/null", 0o20666, os.makedev(1, 3))),
        "set the host name": outcome(lambda: socket.sethostname("mine")),
    },
}
print(json.dumps(facts))
