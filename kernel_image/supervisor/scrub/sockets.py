"""Sockets of the container, queried by netlink.

/proc/net/tcp has the same facts but takes milliseconds, because it walks the connections of the whole
machine as text. The message layout is in sock_diag(7) and linux/inet_diag.h.
"""

import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

from kernel_image import contract
from kernel_image.confinement import sock_diag

_TCP_OF_ALL_FAMILIES: Final = 18
"""TCPDIAG_GETSOCK. The newer request walks all connections of the machine once for each family."""
_ESTABLISHED, _CLOSE_WAIT, _LISTENING = 1, 8, 10
_STATE_OFFSET: Final = 1
_PORTS_OFFSET: Final = 4
"""Offsets in the description of a socket: family, state, timer, retransmits, local and far port."""
_INNER_PORTS: Final = frozenset(port + contract.INTERNAL_PORT_OFFSET for port in contract.PORTS)
_OWN_PORTS: Final = _INNER_PORTS | frozenset(contract.PORTS)


def internet_sockets() -> list[tuple[str, int, int]]:
    """Return protocol, state and local port of each TCP and UDP socket, sorted. See linux/tcp_states.h.

    Connections that outlive their process are among them, for instance in TIME_WAIT: they keep a port from
    being bound. TCP connections of the service to the container's own ports are left out, also where PID 1
    relays them.

    Raises:
        OSError: the Linux kernel refused the query.
    """
    found = []
    with sock_diag.opened() as netlink:
        tcp = struct.pack("=52xII", sock_diag.ANY_STATE, 0)
        for state, port, other_port in _states_and_ports(netlink, _TCP_OF_ALL_FAMILIES, tcp):
            if not _is_own_connection(state, port, other_port):
                found.append(("tcp", state, port))
        for family in (socket.AF_INET, socket.AF_INET6):
            udp = sock_diag.by_family(family, socket.IPPROTO_UDP)
            states = _states_and_ports(netlink, sock_diag.BY_FAMILY, udp)
            found += [("udp", state, port) for state, port, _ in states]
    return sorted(found)


def _is_own_connection(state: int, port: int, other_port: int) -> bool:
    """Return whether a connection is one of the service, or of PID 1's relay to the kernel.

    The relay's end of a connection has any port. In these two states an end has a living owner, so PID 1.
    """
    at_relay = other_port in _INNER_PORTS and state in (_ESTABLISHED, _CLOSE_WAIT)
    return at_relay or (port in _OWN_PORTS and state != _LISTENING)


def _states_and_ports(netlink: socket.socket, kind: int, body: bytes) -> Iterator[tuple[int, int, int]]:
    for found in sock_diag.query(netlink, kind, body):
        yield found[_STATE_OFFSET], *struct.unpack_from("!HH", found, _PORTS_OFFSET)


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
