"""Lists the sockets of this network namespace by netlink. See sock_diag(7) and linux/inet_diag.h."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

BY_FAMILY: Final = 20
"""SOCK_DIAG_BY_FAMILY, the kind of query for `by_family`."""
ANY_STATE: Final = 0xFFFFFFFF
SOCKET_BYTES: Final = 72
"""Size of an `inet_diag_msg`, which describes a socket. Attributes follow it."""
_NETLINK_SOCK_DIAG: Final = 4
_REQUEST_AND_DUMP: Final = 0x301
_ERROR, _DONE = 2, 3
_HEADER: Final = struct.Struct("=IHHII")


@contextmanager
def opened() -> Iterator[socket.socket]:
    """Give a socket for queries. Raises `OSError` if the Linux kernel has no sock_diag."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(10)
        yield netlink


def by_family(family: int, protocol: int, attributes: int = 0) -> bytes:
    """Return a query for the sockets of a family and protocol. `attributes` is a mask of wanted ones."""
    return struct.pack("=BBBBI48x", family, protocol, attributes, 0, ANY_STATE)


def query(netlink: socket.socket, kind: int, body: bytes) -> Iterator[memoryview]:
    """Yield an `inet_diag_msg`, and its attributes, for each socket.

    Raises:
        OSError: the Linux kernel refused the query.
    """
    netlink.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST_AND_DUMP, 1, 0) + body)
    while True:
        answer = memoryview(netlink.recv(1 << 17))
        while answer:
            length, kind = struct.unpack_from("=IH", answer)
            if kind == _DONE:
                return
            if kind == _ERROR:
                (code,) = struct.unpack_from("=i", answer, _HEADER.size)
                raise OSError(-code, "sock_diag")
            yield answer[_HEADER.size : length]
            answer = answer[(length + 3) & ~3 :]
