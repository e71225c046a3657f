"""The seccomp filter for user code, in addition to the container engine's own.

Filters stack, and the strictest one decides. So this filter holds under any engine, runtime and
default profile. It refuses parts of the Linux kernel that Python programs do not need and that
exploits have used. The program is classic BPF, see seccomp(2), linux/filter.h and linux/seccomp.h.
"""

import ctypes
import errno
import platform
import struct
from typing import Final

from kernel_image.confinement import privileges

_MACHINES: Final = ("x86_64", "aarch64")

_Numbers = tuple[int | None, int | None]
"""Numbers of one system call, one for each of `_MACHINES`; None if that machine lacks the call."""

REFUSED: Final[dict[str, _Numbers]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
"""System calls that fail with EPERM."""

ABSENT: Final[dict[str, _Numbers]] = {
    "io_cancel": (210, 3),
    "io_destroy": (207, 1),
    "io_getevents": (208, 4),
    "io_pgetevents": (333, 292),
    "io_setup": (206, 0),
    "io_submit": (209, 2),
}
"""System calls that fail with ENOSYS, as on a Linux kernel without them: programs then do without.

All processes of a machine share a small number of contexts for asynchronous I/O (`fs.aio-max-nr`).
"""

CLONE: Final = (56, 220)
CLONE3: Final = (435, 435)
PERSONALITY: Final = (135, 92)
_SOCKET: Final = (41, 198)
_SOCKETPAIR: Final = (53, 199)
_SETSOCKOPT: Final = (54, 208)
_AUDIT_ARCHITECTURES: Final = (0xC000003E, 0xC00000B7)
_X32_BIT: Final = 0x40000000

NEW_NAMESPACES: Final = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET. Only clone3 takes NEWTIME."""
_SAME_PERSONALITY: Final = (0, 0xFFFFFFFF)
"""PER_LINUX, and the value that only queries the present personality."""
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_PROTOCOLS: Final = (0, 1, 6, 17, 58)
"""Protocols allowed for IPv4 and IPv6 sockets: the default, ICMP, TCP, UDP, ICMPv6."""
_SOL_SOCKET: Final = 1
SOCKET_FILTERS: Final = (26, 50, 51, 52)
"""SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF and _EBPF.

The programs are compiled into memory of which the machine has little (`net.core.bpf_jit_limit`).
"""
_NETLINK_ROUTE: Final = 0
"""Netlink protocol that lists addresses and interfaces. The C library needs it, for `getaddrinfo` too."""

_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _JUMP_IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16

_Program = list[tuple[int, int, int, int]]
"""BPF instructions: operation, jump if true, jump if false, operand."""

_ALLOW: Final[_Program] = [(_RETURN, 0, 0, 0x7FFF0000)]


def _fail(error: int) -> _Program:
    return [(_RETURN, 0, 0, 0x00050000 | error)]


def _when(value: int, then: _Program, *, jump: int = _JUMP_IF_EQUAL) -> _Program:
    """Return code that runs `then` if the loaded word equals `value`. `then` must end with a return."""
    return [(jump, 0, len(then), value), *then]


def _when_any(values: tuple[int, ...], then: _Program) -> _Program:
    return [instruction for value in values for instruction in _when(value, then)]


def _argument(index: int) -> _Program:
    """Return code that loads the lower half of an argument. The Linux kernel ignores the upper half here."""
    return [(_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * index)]


def _program(machine: str) -> _Program:
    column = _MACHINES.index(machine)
    refuse = _fail(errno.EPERM)
    refused = tuple(numbers[column] for numbers in REFUSED.values())
    absent = tuple(numbers[column] for numbers in (*ABSENT.values(), CLONE3))
    socket = [
        *_argument(0),
        *_when(_AF_UNIX, _ALLOW),
        *_when(_AF_NETLINK, [*_argument(2), *_when(_NETLINK_ROUTE, _ALLOW), *refuse]),
        *_when_any((_AF_INET, _AF_INET6), [*_argument(2), *_when_any(_PROTOCOLS, _ALLOW), *refuse]),
        *refuse,
    ]
    option = [
        *_argument(1),
        *_when(_SOL_SOCKET, [*_argument(2), *_when_any(SOCKET_FILTERS, refuse), *_ALLOW]),
    ]
    clone = [*_argument(0), *_when(NEW_NAMESPACES, refuse, jump=_JUMP_IF_ANY_BIT), *_ALLOW]
    return [
        (_LOAD, 0, 0, _ARCHITECTURE_OFFSET),
        (_JUMP_IF_EQUAL, 1, 0, _AUDIT_ARCHITECTURES[column]),
        *refuse,
        (_LOAD, 0, 0, _NUMBER_OFFSET),
        *_when(_X32_BIT, refuse, jump=_JUMP_IF_AT_LEAST),
        # A filter cannot read clone3's flags, which are in memory. On ENOSYS the C library uses clone.
        *_when_any(tuple(number for number in absent if number is not None), _fail(errno.ENOSYS)),
        *_when_any(tuple(number for number in refused if number is not None), refuse),
        *_when(CLONE[column], clone),
        *_when(_SOCKET[column], socket),
        *_when(_SETSOCKOPT[column], [*option, *_ALLOW]),
        *_when(_SOCKETPAIR[column], [*_argument(0), *_when(_AF_UNIX, _ALLOW), *refuse]),
        *_when(PERSONALITY[column], [*_argument(0), *_when_any(_SAME_PERSONALITY, _ALLOW), *refuse]),
        *_ALLOW,
    ]


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


def install() -> None:
    """Filter the system calls of this thread and of everything that it starts later, for good.

    Raises:
        OSError: the Linux kernel refused the filter.
        ValueError: the machine type is not one of `_MACHINES`.
    """
    program = b"".join(struct.pack("=HBBI", *step) for step in _program(platform.machine()))
    header = _Filter(len(program) // 8, program)
    privileges.prctl("no_new_privs", privileges.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    privileges.prctl("system call filter", _PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(header), 0, 0)


def number(numbers: _Numbers) -> int | None:
    """Return a system call's number on this machine; None if the machine lacks the call."""
    return numbers[_MACHINES.index(platform.machine())]
