"""Sockets of the container, queried by netlink.

/proc/net/tcp has the same facts but takes milliseconds, because it walks the connections of the whole
machine as text. The message layout is in sock_diag(7) and linux/inet_diag.h.
"""

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from kernel_image import contract
from kernel_image.confinement import sock_diag

_TCP_OF_ALL_FAMILIES: Final = 18
"""TCPDIAG_GETSOCK. The newer request walks all connections of the machine once for each family."""
_ESTABLISHED, _TIME_WAIT, _CLOSE_WAIT, _LISTENING = 1, 6, 8, 10
_STATE_OFFSET: Final = 1
_PORTS_OFFSET: Final = 4
_ADDRESS_OFFSETS: Final = (8, 24)
"""Offsets in the description of a socket: family, state, timer, retransmits, both ports, both addresses."""
_INNER_PORTS: Final = frozenset(port + contract.INTERNAL_PORT_OFFSET for port in contract.PORTS)
_OWN_PORTS: Final = _INNER_PORTS | frozenset(contract.PORTS)


def internet_sockets() -> list[tuple[str, int, int]]:
    """Return protocol, state and local port of each TCP and UDP socket, sorted. See linux/tcp_states.h.

    Connections that outlive their process are among them, for instance in TIME_WAIT: they keep a port from
    being bound. TCP connections of the service to the container's own ports are left out, also where PID 1
    relays them. Connections that user code has made to these ports, and that are in TIME_WAIT, are not.

    Raises:
        OSError: the Linux kernel refused the query.
    """
    found: list[tuple[str, int, int]] = []
    with sock_diag.opened() as netlink:
        tcp = struct.pack("=52xII", sock_diag.ANY_STATE, 0)
        all_tcp = _sockets(netlink, _TCP_OF_ALL_FAMILIES, tcp)
        found += [("tcp", one.state, one.port) for one in all_tcp if not _is_own_connection(one)]
        for family in (socket.AF_INET, socket.AF_INET6):
            udp = sock_diag.by_family(family, socket.IPPROTO_UDP)
            of_family = _sockets(netlink, sock_diag.BY_FAMILY, udp)
            found += [("udp", one.state, one.port) for one in of_family]
    return sorted(found)


@dataclass(frozen=True)
class _Socket:
    """A socket with the addresses of its two ends; `other_port` is 0 if it is not connected."""

    state: int
    port: int
    other_port: int
    address: bytes
    other_address: bytes


def _is_own_connection(one: _Socket) -> bool:
    """Return whether a connection is one of the service, or of PID 1's relay to the kernel.

    The relay's end of a connection has any port. In these two states an end has a living owner, so PID 1.
    """
    if one.other_port in _INNER_PORTS and one.state in (_ESTABLISHED, _CLOSE_WAIT):
        return True
    if one.port not in _OWN_PORTS or one.state == _LISTENING:
        return False
    return one.state != _TIME_WAIT or _comes_from_outside(one)


def _comes_from_outside(one: _Socket) -> bool:
    """Return whether the other end is in another network namespace. User code reaches none."""
    here, there = _parsed(one.address), _parsed(one.other_address)
    return not (here.is_loopback or there.is_loopback or here == there)


def _sockets(netlink: socket.socket, kind: int, body: bytes) -> Iterator[_Socket]:
    for found in sock_diag.query(netlink, kind, body):
        port, other_port = struct.unpack_from("!HH", found, _PORTS_OFFSET)
        addresses = [bytes(found[at : at + 16]) for at in _ADDRESS_OFFSETS]
        yield _Socket(found[_STATE_OFFSET], port, other_port, *addresses)


def _parsed(address: bytes) -> IPv4Address | IPv6Address:
    """Return an address, as IPv4 where that is mapped into IPv6. The end of an IPv4 address is empty."""
    if not any(address[4:]):
        return IPv4Address(address[:4])
    parsed = IPv6Address(address)
    return parsed.ipv4_mapped or parsed


def named_unix_sockets() -> list[str]:
    """Return the names of the Unix sockets that have one, sorted."""
    with open("/proc/net/unix") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return sorted(row[7] for row in rows if len(row) > 7)


def flow_labels() -> str:
    """Return the table of IPv6 flow labels, which outlive their sockets for some seconds."""
    if not os.path.exists("/proc/net/ip6_flowlabel"):
        return ""
    with open("/proc/net/ip6_flowlabel") as table:
        return table.read()
