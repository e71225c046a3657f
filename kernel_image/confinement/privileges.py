"""Giving up privileges: capabilities, user and group ids. See capabilities(7), capset(2) and prctl(2)."""

import contextlib
import ctypes
import os
import platform
import signal
import struct
from collections.abc import Iterable, Iterator

from kernel_image.confinement.libc import libc

CAP_KILL = 5
CAP_SETGID = 6
CAP_SETUID = 7
CAP_SETPCAP = 8

_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_SYS_SETRESUID = {"x86_64": 117, "aarch64": 147}


def _check(result: int, purpose: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{purpose}: {os.strerror(code)}")


def prctl(purpose: str, option: int, *arguments: object) -> None:
    """Call prctl(2) for this thread.

    Raises:
        OSError: the call failed; its text begins with `purpose`.
    """
    _check(libc.prctl(option, *arguments), purpose)


def keep_capabilities(kept: Iterable[int]) -> None:
    """Reduce this process to the capabilities `kept`, in every set but the bounding one.

    Raises:
        OSError: the call failed, for instance because the process lacks one of them.
    """
    mask = sum(1 << number for number in kept)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _check(libc.capset(header, data), "capset")


def empty_bounding_set() -> None:
    """Prevent this process and its children from gaining a capability by execve. Needs CAP_SETPCAP."""
    number = 0
    while libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        prctl("drop from the bounding set", _PR_CAPBSET_DROP, number, 0, 0, 0)
        number += 1


def become_user(uid: int) -> None:
    """Turn this process, for good, into one of user and group `uid` without any capability.

    The change of user takes away the right to read /proc/self. The process is made dumpable to get it back.
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    keep_capabilities(())
    prctl("no_new_privs", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl("dumpable", _PR_SET_DUMPABLE, 1, 0, 0, 0)


def act_as_user_in_this_thread(uid: int, real_uid: int) -> None:
    """Let only this thread act as user `uid`, out of reach of this user. Also block all signals for it.

    Its effective user is `uid` and its effective capabilities are gone. Processes of `uid` cannot signal it,
    because its real and saved user is `real_uid`, which must be the user of no process. They cannot change
    its scheduling, because it keeps its permitted capabilities, which they lack.

    Makes the system call directly, because the C library's function changes all threads of a process.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    prctl("keep permitted capabilities", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    _check(libc.syscall(_SYS_SETRESUID[platform.machine()], real_uid, uid, real_uid), "setresuid")


def use_file_access_of(uid: int) -> int:
    """Make this thread open files with the rights of user and group `uid`. Its other rights stay.

    Returns:
        The user whose rights it used before.
    """
    libc.setfsgid(uid)
    return int(libc.setfsuid(uid))


@contextlib.contextmanager
def file_access_of(uid: int) -> Iterator[None]:
    """Open files with the rights of user and group `uid` in this block."""
    previous = use_file_access_of(uid)
    try:
        yield
    finally:
        use_file_access_of(previous)
