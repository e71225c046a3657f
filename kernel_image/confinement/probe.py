"""The probe of the start-up self-test: it finds out what user code can see and do by trying it.

`main` runs in a process forked from a fresh kernel, so that the kernel itself does not change. It
reads a JSON object from standard input with the addresses that must be unreachable,
{"tcp": {group: [[host, port]]}, "udp": [[host, port]]}, and prints its facts as a JSON object.
`sessions.isolation.isolation_checks` judges the facts.
"""

import ctypes
import json
import os
import platform
import resource
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from kernel_image import contract
from kernel_image.confinement import network_probe, seccomp
from kernel_image.confinement.attempt import outcome

_FOLDERS: Final = ("/", "/etc", "/usr", "/var", "/opt", "/root", "/run", "/home", "/dev", "/sys", "/proc")
_ENGINE_SOCKETS: Final = ("/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock")
_SOCKETS: Final = {
    "raw IPv4": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "raw IPv6": (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
    "packets": (17, socket.SOCK_RAW, 0x0300),
    "AF_ALG": (38, socket.SOCK_SEQPACKET, 0),
    "AF_VSOCK": (40, socket.SOCK_STREAM, 0),
    "AF_TIPC": (30, socket.SOCK_STREAM, 0),
    "SCTP": (socket.AF_INET, socket.SOCK_STREAM, 132),
    "nftables": (socket.AF_NETLINK, socket.SOCK_RAW, 12),
}
_GET_MEMPOLICY: Final = {"x86_64": 239, "aarch64": 236}

_libc = ctypes.CDLL(None, use_errno=True)


# --- the process and its container ----------------------------------------------------------------


def _status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _limits() -> dict[str, int]:
    names = {"core": resource.RLIMIT_CORE, "fsize": resource.RLIMIT_FSIZE, "nofile": resource.RLIMIT_NOFILE}
    return {name: resource.getrlimit(number)[1] for name, number in names.items()}


def _mounts() -> dict[str, dict[str, Any]]:
    """Return the mounts by mount point. A later mount hides an earlier one at the same point."""
    found = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount_point, kind, options = line.split()[:4]
        found[mount_point] = {"kind": kind, "options": options.split(",")}
    return found


def _spaces() -> dict[str, dict[str, int]]:
    found = {}
    for folder in contract.WRITABLE_FOLDERS:
        status = os.statvfs(folder)
        found[folder] = {"bytes": status.f_blocks * status.f_frsize, "inodes": status.f_files}
    return found


def _writable() -> list[str]:
    """Return the folders and mounted files that this user may write to, except masks made of /dev/null."""
    null = os.stat("/dev/null").st_rdev
    paths = {*_FOLDERS, *_mounts()}
    return sorted(path for path in paths if os.access(path, os.W_OK) and os.stat(path).st_rdev != null)


def _devices() -> list[str]:
    paths = [f"{folder}/{name}" for folder, _, names in os.walk("/dev") for name in names]
    modes = {path: os.lstat(path).st_mode for path in paths}
    return sorted(path for path, mode in modes.items() if stat.S_ISCHR(mode) or stat.S_ISBLK(mode))


def _engine_sockets() -> list[str]:
    return [path for path in _ENGINE_SOCKETS if os.path.exists(path)]


def _read_first(*paths: str) -> str | None:
    """Return the content of the first file that exists."""
    for path in paths:
        if os.path.exists(path):
            return Path(path).read_text().strip()
    return None


def _cgroup() -> dict[str, str | None]:
    """Return the limits as cgroup v2 or v1 writes them."""
    root = "/sys/fs/cgroup"
    quota, _, period = (_read_first(f"{root}/cpu.max") or "").partition(" ")
    return {
        "memory": _read_first(f"{root}/memory.max", f"{root}/memory/memory.limit_in_bytes"),
        "swap": _read_first(f"{root}/memory.swap.max"),
        "memory and swap": _read_first(f"{root}/memory/memory.memsw.limit_in_bytes"),
        "pids": _read_first(f"{root}/pids.max", f"{root}/pids/pids.max"),
        "quota": quota or _read_first(f"{root}/cpu/cpu.cfs_quota_us"),
        "period": period or _read_first(f"{root}/cpu/cpu.cfs_period_us"),
    }


def _machine_swap() -> int:
    (line,) = (line for line in Path("/proc/meminfo").read_text().splitlines() if "SwapTotal:" in line)
    return int(line.split()[1]) << 10


def _first_process() -> dict[str, Any]:
    def read(name: str) -> None:
        Path(f"/proc/1/{name}").open("rb").close()

    def enter(name: str) -> None:
        os.listdir(f"/proc/1/{name}/")

    return {
        "command": Path("/proc/1/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"),
        "attempts": {name: outcome(read, name) for name in ("environ", "mem", "maps")}
        | {name: outcome(enter, name) for name in ("root", "cwd", "fd")}
        | {"signal": outcome(os.kill, 1, 0)},
    }


# --- system calls ---------------------------------------------------------------------------------


def _call(number: int, *arguments: int) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _system_calls() -> dict[str, str]:
    """Try each call that the seccomp filter refuses, with arguments that do no harm if it is allowed."""
    tables = seccomp.REFUSED | seccomp.ABSENT
    refused = {name: seccomp.number(numbers) for name, numbers in tables.items()}
    found = {name: outcome(_call, number, *[-1] * 6) for name, number in refused.items() if number}
    no_randomised_addresses = 0x0040000
    return found | {
        "clone3": outcome(_call, seccomp.number(seccomp.CLONE3), -1, -1),
        "clone of a user namespace": outcome(_clone_into_user_namespace),
        "personality": outcome(_call, seccomp.number(seccomp.PERSONALITY), no_randomised_addresses),
        "socket filter": outcome(_attach_filter),
        "socketpair of AF_TIPC": outcome(socket.socketpair, 30, socket.SOCK_STREAM),
    }


def _attach_filter() -> None:
    """Attach a filter that drops everything to a socket. It ends with the socket."""
    drop = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(drop))
        channel.setsockopt(socket.SOL_SOCKET, seccomp.SOCKET_FILTERS[0], program)


def _clone_into_user_namespace() -> None:
    number, new_user = seccomp.number(seccomp.CLONE), 0x10000000
    assert number is not None
    pid = _call(number, new_user | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _memory_policy() -> str:
    """Try a call that Docker's default profile refuses and our filter allows."""
    return outcome(_call, _GET_MEMPOLICY[platform.machine()], 0, 0, 0, 0, 0)


def _sockets() -> dict[str, str]:
    return {name: outcome(socket.socket, *kind) for name, kind in _SOCKETS.items()}


def _facts(targets: dict[str, Any]) -> dict[str, Any]:
    """Return all facts by name. Under `unknown` are facts that could not be found out, with the reason."""
    sources: dict[str, Callable[[], Any]] = {
        "status": _status,
        "limits": _limits,
        "mounts": _mounts,
        "spaces": _spaces,
        "writable": _writable,
        "devices": _devices,
        "engine sockets": _engine_sockets,
        "cgroup": _cgroup,
        "swap of machine": _machine_swap,
        "first process": _first_process,
        "system calls": _system_calls,
        "memory policy": _memory_policy,
        "sockets": _sockets,
        **network_probe.sources(targets),
    }
    facts: dict[str, Any] = {"unknown": {}}
    for name, source in sources.items():
        try:
            facts[name] = source()
        except Exception as error:
            facts["unknown"][name] = f"{type(error).__name__}: {error}"
    return facts


def main() -> None:
    """Read the addresses from standard input and print the facts."""
    print(json.dumps(_facts(json.load(sys.stdin))), flush=True)
