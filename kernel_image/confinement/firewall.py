"""The container's firewall: an nftables table in its own network namespace, loaded by netlink.

Netlink makes the image independent of an `nft` binary, so that it works on any base. The message
layout is in linux/netfilter/nf_tables.h and nfnetlink.h.
"""

import os
import socket
import struct
from collections.abc import Iterable, Sequence

_NETLINK_NETFILTER = 12
_NFPROTO_INET, _NFPROTO_IPV4 = 1, 2
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_SUBSYSTEM = 10
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE = 0, 3, 6
_REQUEST, _ACK, _CREATE, _APPEND = 0x1, 0x4, 0x400, 0x800
_NESTED = 0x8000
_HOOK_EARLY_IN, _HOOK_IN, _HOOK_OUT = 0, 1, 3
_BEFORE_TRACKING, _USUAL = -300, 0
"""Priorities of chains: connections are tracked at -200."""
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


def _interface_is(key: int, name: str) -> list[bytes]:
    return _meta(key, name.encode().ljust(16, b"\0"))


def _destination_is(address: str) -> list[bytes]:
    destination_offset = 16
    return _meta(_META_NFPROTO, bytes([_NFPROTO_IPV4])) + _payload(
        1, destination_offset, socket.inet_aton(address)
    )


def _tcp_port_is(port: int) -> list[bytes]:
    destination_offset = 2
    return _is_tcp() + _payload(2, destination_offset, struct.pack("!H", port))


def _do_not_track() -> list[bytes]:
    return [_expression("notrack")]


def _connection_is_known() -> list[bytes]:
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
    """Answer with ICMP(v6) "administratively prohibited", so that the sender fails at once."""
    return [_expression("reject", _number(1, 2), _attribute(2, b"\x03"))]


def _is_tcp() -> list[bytes]:
    return _meta(_META_L4PROTO, bytes([socket.IPPROTO_TCP]))


def _reject_tcp() -> list[bytes]:
    """Answer TCP with a reset: connect() misses an early ICMP answer and retries after 1 s."""
    return [*_is_tcp(), _expression("reject", _number(1, 1))]


def _message(kind: int, flags: int, sequence: int, family: int, resource: int, body: bytes) -> bytes:
    payload = struct.pack("!BBH", family, 0, resource) + body
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0) + payload


def _chain(name: str, hook: int, priority: int, policy: int) -> bytes:
    return b"".join(
        (
            _text(1, _TABLE),
            _text(3, name),
            _nested(4, _number(1, hook), _number(2, priority & 0xFFFFFFFF)),
            _number(5, policy),
            _text(7, "filter"),
        )
    )


def _rule(chain: str, expressions: Iterable[bytes]) -> bytes:
    return _text(1, _TABLE) + _text(2, chain) + _nested(4, *expressions)


def _requests(open_ports: Sequence[int], outside_only_ports: Sequence[int]) -> list[tuple[int, int, bytes]]:
    to_loopback, from_loopback = _interface_is(_META_OIFNAME, "lo"), _interface_is(_META_IIFNAME, "lo")
    to_resolver = [*to_loopback, *_destination_is("127.0.0.11")]
    outgoing = [
        [*to_resolver, *_reject_tcp()],
        [*to_resolver, *_reject()],
        *([*to_loopback, *_tcp_port_is(port), *_reject_tcp()] for port in outside_only_ports),
        [*to_loopback, *_accept()],
        [*_connection_is_known(), *_accept()],
        _reject_tcp(),
        _reject(),
    ]
    incoming = [
        [*from_loopback, *_accept()],
        [*_connection_is_known(), *_accept()],
        *([*_tcp_port_is(port), *_accept()] for port in open_ports),
    ]
    rules = [_rule("output", rule) for rule in outgoing] + [_rule("input", rule) for rule in incoming]
    # Each tracked connection takes memory of the machine that is not counted as the container's.
    rules.append(_rule("untracked_output", [*to_loopback, *_do_not_track()]))
    rules.append(_rule("untracked_input", [*from_loopback, *_do_not_track()]))
    return [
        (_NEW_TABLE, _CREATE, _text(1, _TABLE)),
        (_NEW_CHAIN, _CREATE, _chain("output", _HOOK_OUT, _USUAL, _DROP)),
        (_NEW_CHAIN, _CREATE, _chain("input", _HOOK_IN, _USUAL, _DROP)),
        (_NEW_CHAIN, _CREATE, _chain("untracked_output", _HOOK_OUT, _BEFORE_TRACKING, _ACCEPT)),
        (_NEW_CHAIN, _CREATE, _chain("untracked_input", _HOOK_EARLY_IN, _BEFORE_TRACKING, _ACCEPT)),
        *((_NEW_RULE, _CREATE | _APPEND, rule) for rule in rules),
    ]


def close_network(open_ports: Sequence[int], outside_only_ports: Sequence[int]) -> None:
    """Reject new outgoing connections, and accept incoming ones only at `open_ports`. Needs CAP_NET_ADMIN.

    Loopback stays open for the user's own servers, except for Docker's embedded DNS (127.0.0.11). Connections
    over loopback are not tracked.

    Args:
        open_ports: TCP ports that accept connections from outside.
        outside_only_ports: TCP ports that reject connections from inside the container.

    Raises:
        OSError: the Linux kernel refused a rule. No rule is in force then, because a batch is atomic.
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
