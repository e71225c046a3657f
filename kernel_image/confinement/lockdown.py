"""Closing the container's network and giving up privileges.

`close_network` loads an nftables table into the container's own network namespace, by netlink, so
that the image needs no `nft` binary and works on any base. Message layout: linux/netfilter/nf_tables.h
and nfnetlink.h. `Capabilities` calls are capset(2) and prctl(2).
"""

import ctypes
import os
import platform
import signal
import socket
import struct
from collections.abc import Iterable, Sequence

CAP_KILL = 5
CAP_SETGID = 6
CAP_SETUID = 7
CAP_SETPCAP = 8

_libc = ctypes.CDLL(None, use_errno=True)

# --- privileges ---------------------------------------------------------------------------------

_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_SYS_SETRESUID = {"x86_64": 117, "aarch64": 147}


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def control(what: str, option: int, *arguments: object) -> None:
    """Call prctl(2) for this thread. Raises `OSError`, which says `what`, where the kernel refuses."""
    _check(_libc.prctl(option, *arguments), what)


def keep_capabilities(kept: Iterable[int]) -> None:
    """Reduce this process to the capabilities `kept`, in every set but the bounding one.

    Raises:
        OSError: the kernel refused, for instance because one of them is not held.
    """
    mask = sum(1 << number for number in kept)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _check(_libc.capset(header, data), "capset")


def empty_bounding_set() -> None:
    """Make sure that no process started from here gains a capability by execve. Needs SETPCAP."""
    number = 0
    while _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        control("drop from the bounding set", _PR_CAPBSET_DROP, number, 0, 0, 0)
        number += 1


def become(uid: int) -> None:
    """Turn this process, for good, into user and group `uid` without any capability.

    It may read its own /proc/self again afterwards, which a change of user takes away.
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    keep_capabilities(())
    control("no_new_privs", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    control("dumpable", _PR_SET_DUMPABLE, 1, 0, 0, 0)


def become_in_this_thread(uid: int) -> None:
    """Give this thread alone the user id `uid`, and with that no capability; no signal reaches it.

    By the system call itself: what the C library offers changes all threads of a process.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    _check(_libc.syscall(_SYS_SETRESUID[platform.machine()], uid, uid, uid), "setresuid")


def use_file_access_of(uid: int) -> None:
    """Let this thread open files with the rights of user and group `uid`; all else stays as it is."""
    _libc.setfsgid(uid)
    _libc.setfsuid(uid)


# --- network ------------------------------------------------------------------------------------

_NETLINK_NETFILTER = 12
_NFPROTO_INET, _NFPROTO_IPV4 = 1, 2
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_SUBSYSTEM = 10
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE = 0, 3, 6
_REQUEST, _ACK, _CREATE, _APPEND = 0x1, 0x4, 0x400, 0x800
_NESTED = 0x8000
_HOOK_IN, _HOOK_OUT = 1, 3
_DROP, _ACCEPT = 0, 1
_REGISTER = 1
_META_IIFNAME, _META_OIFNAME, _META_NFPROTO, _META_L4PROTO = 6, 7, 15, 16
_ESTABLISHED_OR_RELATED = 0x2 | 0x4
_TABLE = "code_interpreter"


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def _nested(kind: int, *children: bytes) -> bytes:
    return _attribute(kind | _NESTED, b"".join(children))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("!I", value))


def _expression(name: str, *attributes: bytes) -> bytes:
    return _nested(1, _text(1, name), _nested(2, *attributes))


def _equals(value: bytes, *, unequal: bool = False) -> bytes:
    return _expression(
        "cmp", _number(1, _REGISTER), _number(2, int(unequal)), _nested(3, _attribute(1, value))
    )


def _meta(key: int, value: bytes) -> list[bytes]:
    return [_expression("meta", _number(1, _REGISTER), _number(2, key)), _equals(value)]


def _payload(base: int, offset: int, value: bytes) -> list[bytes]:
    load = (_number(1, _REGISTER), _number(2, base), _number(3, offset), _number(4, len(value)))
    return [_expression("payload", *load), _equals(value)]


def _interface(key: int, name: str) -> list[bytes]:
    return _meta(key, name.encode().ljust(16, b"\0"))


def _to_address(address: str) -> list[bytes]:
    destination_offset = 16
    return _meta(_META_NFPROTO, bytes([_NFPROTO_IPV4])) + _payload(
        1, destination_offset, socket.inet_aton(address)
    )


def _to_tcp_port(port: int) -> list[bytes]:
    destination_offset = 2
    return _is_tcp() + _payload(2, destination_offset, struct.pack("!H", port))


def _of_known_connection() -> list[bytes]:
    mask, zero = struct.pack("=I", _ESTABLISHED_OR_RELATED), bytes(4)
    return [
        _expression("ct", _number(1, _REGISTER), _number(2, 0)),
        _expression(
            "bitwise",
            _number(1, _REGISTER),
            _number(2, _REGISTER),
            _number(3, 4),
            _nested(4, _attribute(1, mask)),
            _nested(5, _attribute(1, zero)),
        ),
        _equals(zero, unequal=True),
    ]


def _accept() -> list[bytes]:
    return [_expression("immediate", _number(1, 0), _nested(2, _nested(2, _number(1, _ACCEPT))))]


def _reject() -> list[bytes]:
    """ICMP(v6) "administratively prohibited": who sends fails at once and does not hang."""
    return [_expression("reject", _number(1, 2), _attribute(2, b"\x03"))]


def _is_tcp() -> list[bytes]:
    return _meta(_META_L4PROTO, bytes([socket.IPPROTO_TCP]))


def _reset() -> list[bytes]:
    """For TCP, whose connect() misses an ICMP answer that comes too soon, and tries again after 1 s."""
    return [*_is_tcp(), _expression("reject", _number(1, 1))]


def _message(kind: int, flags: int, sequence: int, family: int, resource: int, body: bytes) -> bytes:
    payload = struct.pack("!BBH", family, 0, resource) + body
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0) + payload


def _chain(name: str, hook: int) -> bytes:
    return b"".join(
        (
            _text(1, _TABLE),
            _text(3, name),
            _nested(4, _number(1, hook), _number(2, 0)),
            _number(5, _DROP),
            _text(7, "filter"),
        )
    )


def _rule(chain: str, expressions: Iterable[bytes]) -> bytes:
    return _text(1, _TABLE) + _text(2, chain) + _nested(4, *expressions)


def _requests(open_ports: Sequence[int], outside_only_ports: Sequence[int]) -> list[tuple[int, int, bytes]]:
    to_loopback = _interface(_META_OIFNAME, "lo")
    to_resolver = [*to_loopback, *_to_address("127.0.0.11")]
    outgoing = [
        [*to_resolver, *_reset()],
        [*to_resolver, *_reject()],
        *([*to_loopback, *_to_tcp_port(port), *_reset()] for port in outside_only_ports),
        [*to_loopback, *_accept()],
        [*_of_known_connection(), *_accept()],
        _reset(),
        _reject(),
    ]
    incoming = [
        [*_interface(_META_IIFNAME, "lo"), *_accept()],
        [*_of_known_connection(), *_accept()],
        *([*_to_tcp_port(port), *_accept()] for port in open_ports),
    ]
    rules = [_rule("output", rule) for rule in outgoing] + [_rule("input", rule) for rule in incoming]
    return [
        (_NEW_TABLE, _CREATE, _text(1, _TABLE)),
        (_NEW_CHAIN, _CREATE, _chain("output", _HOOK_OUT)),
        (_NEW_CHAIN, _CREATE, _chain("input", _HOOK_IN)),
        *((_NEW_RULE, _CREATE | _APPEND, rule) for rule in rules),
    ]


def close_network(open_ports: Sequence[int], outside_only_ports: Sequence[int]) -> None:
    """Let nothing new out and only `open_ports` in; loopback stays for the user's own servers.

    Docker's embedded DNS (127.0.0.11) is closed as well. `outside_only_ports` refuse connections
    that come from inside the container. Needs NET_ADMIN.

    Raises:
        OSError: the kernel did not take a rule; none is in force then (a batch is atomic).
    """
    requests = _requests(open_ports, outside_only_ports)
    batch = [_message(_BATCH_BEGIN, _REQUEST, 0, 0, _SUBSYSTEM, b"")]
    for sequence, (kind, flags, body) in enumerate(requests, start=1):
        batch.append(
            _message(_SUBSYSTEM << 8 | kind, _REQUEST | _ACK | flags, sequence, _NFPROTO_INET, 0, body)
        )
    batch.append(_message(_BATCH_END, _REQUEST, len(batch), 0, _SUBSYSTEM, b""))

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.settimeout(10)
        netlink.send(b"".join(batch))
        pending = len(requests)
        while pending:
            answer = netlink.recv(65536)
            while answer:
                length, kind, _, sequence, _ = struct.unpack_from("=IHHII", answer)
                (error,) = struct.unpack_from("=i", answer, 16)
                if error:
                    raise OSError(-error, f"nftables request {sequence}: {os.strerror(-error)}")
                pending -= 1
                answer = answer[(length + 3) & ~3 :]
