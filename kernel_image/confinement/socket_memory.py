"""Memory in the buffers of the container's TCP and UDP sockets, as sock_diag(7) reports it.

Version 1 of Linux's cgroups does not count this memory as a container's, and all sockets of a machine share
a limit (`net.ipv4.tcp_mem`). The message layout is in linux/inet_diag.h and linux/sock_diag.h.
"""

import re
import socket
import struct
from pathlib import Path
from typing import Final

from kernel_image.confinement import sock_diag

_SOCKET_MEMORY: Final = 7
"""Attribute with the memory of a socket."""
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
    total = 0
    try:
        with sock_diag.opened() as netlink:
            for family in (socket.AF_INET, socket.AF_INET6):
                for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
                    body = sock_diag.by_family(family, protocol, 1 << (_SOCKET_MEMORY - 1))
                    for found in sock_diag.query(netlink, sock_diag.BY_FAMILY, body):
                        total += _socket_bytes(found[sock_diag.SOCKET_BYTES :])
    except OSError:
        return 0
    return total


def _socket_bytes(attributes: memoryview) -> int:
    while attributes:
        length, kind = struct.unpack_from("=HH", attributes)
        if kind == _SOCKET_MEMORY:
            numbers = struct.unpack_from("=8I", attributes, 4)
            return sum(numbers[place] for place in (_RECEIVED, _FORWARD, _QUEUED, _BACKLOG))
        attributes = attributes[(length + 3) & ~3 :]
    return 0
