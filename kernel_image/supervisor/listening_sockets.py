"""Listening sockets of the container, queried by netlink.

/proc/net/tcp has the same facts but takes milliseconds, because it walks the connections of the whole
machine. The message layout is in sock_diag(7) and linux/inet_diag.h.
"""

import socket
import struct
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST_AND_DUMP: Final = 0x301
_ERROR, _DONE = 2, 3
_LISTENING: Final = 1 << 10
_ANY_STATE: Final = 0xFFFFFFFF
_HEADER: Final = struct.Struct("=IHHII")
_PORT_OFFSET: Final = 16 + 4
"""Offset of the local port in a reply: after the netlink header, family, state, timer and retransmits."""


def listening_sockets() -> list[tuple[str, int]]:
    """Return the protocol and local port of each listening TCP socket and of each UDP socket, sorted.

    Raises:
        OSError: the Linux kernel refused the query.
    """
    found = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(10)
        for family in (socket.AF_INET, socket.AF_INET6):
            for name, protocol, states in (
                ("tcp", socket.IPPROTO_TCP, _LISTENING),
                ("udp", socket.IPPROTO_UDP, _ANY_STATE),
            ):
                found += [(name, port) for port in _ports(netlink, family, protocol, states)]
    return sorted(found)


def _ports(netlink: socket.socket, family: int, protocol: int, states: int) -> list[int]:
    body = struct.pack("=BBBBI48x", family, protocol, 0, 0, states)
    header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_AND_DUMP, 1, 0)
    netlink.send(header + body)
    ports: list[int] = []
    while True:
        answer = netlink.recv(1 << 16)
        while answer:
            length, kind, *_ = _HEADER.unpack_from(answer)
            if kind == _DONE:
                return ports
            if kind == _ERROR:
                (error,) = struct.unpack_from("=i", answer, _HEADER.size)
                raise OSError(-error, "sock_diag")
            ports.append(struct.unpack_from("!H", answer, _PORT_OFFSET)[0])
            answer = answer[(length + 3) & ~3 :]
