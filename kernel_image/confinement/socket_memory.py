"""Memory in the buffers of the container's TCP and UDP sockets, as sock_diag(7) reports it.

Version 1 of Linux's cgroups does not count this memory as a container's, and all sockets of a machine share
a limit (`net.ipv4.tcp_mem`). The message layout is in linux/inet_diag.h and linux/sock_diag.h.
"""

import re
import socket
import struct
from pathlib import Path
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x301
_ERROR, _DONE = 2, 3
_SOCKET_MEMORY: Final = 7
"""Attribute with the memory of a socket."""
_ALL_STATES: Final = 0xFFFFFFFF
_HEADER_BYTES: Final = 16
_SOCKET_BYTES: Final = 72
_RECEIVED, _FORWARD, _QUEUED, _BACKLOG = 0, 4, 5, 7
"""Positions in the attribute: read buffer, reserved for growth, write buffer, not yet in the read buffer."""
_PAGE_BYTES: Final = 4096


def machine_bytes() -> int:
    """Return the memory in the buffers of all TCP and UDP sockets of the machine, in bytes. A fast call."""
    pages = re.findall(r"^(?:TCP|UDP): .* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    return _PAGE_BYTES * sum(map(int, pages))


def container_bytes() -> int:
    """Return the memory in the buffers of this network namespace's sockets, in bytes.

    Return 0 if the Linux kernel was built without sock_diag.
    """
    families, protocols = (socket.AF_INET, socket.AF_INET6), (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
    try:
        return sum(_dump(family, protocol) for family in families for protocol in protocols)
    except OSError:
        return 0


def _dump(family: int, protocol: int) -> int:
    body = struct.pack("=BBBBI48x", family, protocol, 1 << (_SOCKET_MEMORY - 1), 0, _ALL_STATES)
    head = struct.pack("=IHHII", _HEADER_BYTES + len(body), _BY_FAMILY, _REQUEST_DUMP, 1, 0)
    total = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(10)
        netlink.send(head + body)
        while True:
            answer = memoryview(netlink.recv(1 << 17))
            while answer:
                length, kind = struct.unpack_from("=IH", answer)
                if kind == _DONE:
                    return total
                if kind == _ERROR:
                    (code,) = struct.unpack_from("=i", answer, _HEADER_BYTES)
                    raise OSError(-code, "sock_diag")
                total += _socket_bytes(answer[_HEADER_BYTES + _SOCKET_BYTES : length])
                answer = answer[(length + 3) & ~3 :]


def _socket_bytes(attributes: memoryview) -> int:
    while attributes:
        length, kind = struct.unpack_from("=HH", attributes)
        if kind == _SOCKET_MEMORY:
            numbers = struct.unpack_from("=8I", attributes, 4)
            return sum(numbers[place] for place in (_RECEIVED, _FORWARD, _QUEUED, _BACKLOG))
        attributes = attributes[(length + 3) & ~3 :]
    return 0
