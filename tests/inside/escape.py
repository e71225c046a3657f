# ruff: noqa: T201
"""Tries unusual ways out of a kernel's network, to addresses of the test's own machine.

Standard input is JSON: {"host": address, "port": a TCP and UDP port there, "abstract": name of a Unix
socket of the host, "own": [port]}, where "own" has the kernel's published ports. Prints how each
attempt ended.
"""

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

TIMEOUT_SEC = 10.0
targets = json.load(sys.stdin)
host, port = targets["host"], targets["port"]
attempts: list[dict[str, Any]] = []


def attempt(name: str, action: Callable[[], Any]) -> None:
    """Run an action that must fail, and record how it ended."""
    try:
        ended = f"reached: {action()!r}"
    except OSError as error:
        ended = type(error).__name__
    attempts.append({"name": name, "ended": ended})


def connect(prepare: Callable[[socket.socket], object], family: int = socket.AF_INET) -> Callable[[], str]:
    """Return an action that connects a prepared TCP socket."""

    def call() -> str:
        with socket.socket(family) as connection:
            connection.settimeout(TIMEOUT_SEC)
            prepare(connection)
            connection.connect((host, port) if family == socket.AF_INET else (f"::ffff:{host}", port))
            return "connected"

    return call


def send(address: tuple[str, int], prepare: Callable[[socket.socket], object]) -> Callable[[], int]:
    """Return an action that sends a datagram from a prepared socket."""

    def call() -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            prepare(channel)
            return channel.sendto(b"out", address)

    return call


def fast_open() -> int:
    """Send data in the first packet of a TCP connection."""
    with socket.socket() as connection:
        connection.settimeout(TIMEOUT_SEC)
        return connection.sendto(b"out", socket.MSG_FASTOPEN, (host, port))


def from_own_port(number: int) -> Callable[[socket.socket], object]:
    """Return a preparation: bind the socket to a published port, from which the firewall lets answers out."""

    def prepare(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        connection.bind(("", number))

    return prepare


def unix_of_the_host() -> str:
    """Connect to a Unix socket of the host by its abstract name, which needs no file system."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"\0{targets['abstract']}")
        return "connected"


def through_child() -> str:
    """Connect through bash's /dev/tcp, in a child process."""
    command = f"exec 3<>/dev/tcp/{host}/{port}"
    if subprocess.run(["bash", "-c", command], capture_output=True, check=False).returncode:
        raise ConnectionError
    return "connected"


def route(kind: int, body: bytes, protocol: int = 0) -> Callable[[], str]:
    """Return an action that requests a change of the network's settings by netlink."""

    def call() -> str:
        message = struct.pack("=IHHII", 16 + len(body), kind, 0x405, 1, 0) + body
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as netlink:
            netlink.settimeout(TIMEOUT_SEC)
            netlink.send(message)
            answer = netlink.recv(4096)
        (code,) = struct.unpack_from("=i", answer, 16)
        if code < 0:
            raise OSError(-code, "netlink")
        return "changed"

    return call


def option(level: int, name: int, value: int | bytes) -> Callable[[socket.socket], object]:
    """Return a preparation that sets a socket option."""
    return lambda channel: channel.setsockopt(level, name, value)


broadcast = option(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
attempt("mapped into IPv6", connect(lambda _: None, socket.AF_INET6))
attempt("bound to the interface", connect(option(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")))
attempt("with a mark", connect(option(socket.SOL_SOCKET, 36, 1)))
attempt("with a priority", connect(option(socket.SOL_SOCKET, socket.SO_PRIORITY, 6)))
attempt(
    "by a route of its own", connect(option(socket.IPPROTO_IP, 4, b"\x83\x07\x04" + socket.inet_aton(host)))
)
attempt("transparent", connect(option(socket.IPPROTO_IP, 19, 1)))
for number in targets["own"]:
    attempt(f"from the published port {number}", connect(from_own_port(number)))
attempt("fast open", fast_open)
attempt("by a child's shell", through_child)
attempt("datagram", send((host, port), lambda _: None))
attempt(
    "datagram from a published port",
    send((host, port), lambda channel: channel.bind(("", targets["own"][0]))),
)
attempt("broadcast", send(("255.255.255.255", port), broadcast))
attempt("multicast", send(("224.0.0.1", port), lambda _: None))
attempt("connected datagram", send((host, port), lambda channel: channel.connect((host, port))))
attempt("Unix socket of the host", unix_of_the_host)
attempt(
    "new address", route(20, struct.pack("=BBBBIHH4s", 2, 8, 0, 0, 1, 8, 2, socket.inet_aton("127.0.0.2")))
)
attempt("interface down", route(16, struct.pack("=BxHiII", 0, 0, socket.if_nametoindex("eth0"), 0, 1)))
attempt("new interface", route(16, struct.pack("=BxHiII", 0, 0, 0, 0, 0)))
attempt("flush of nftables", route(10 << 8 | 2, struct.pack("=BBH", 1, 0, 0), protocol=12))
print(json.dumps(attempts))
