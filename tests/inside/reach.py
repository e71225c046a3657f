# ruff: noqa: T201
"""Tries to reach addresses from inside a kernel.

Standard input is JSON: {"tcp": [[host, port]], "udp": [[host, port]], "ipv6": [[host, port]],
"supervisor": [[host, port]]}.
Prints for each attempt its name and how it ended.
"""

import json
import socket
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

TIMEOUT_SEC = 10.0
attempts: list[dict[str, Any]] = []


def attempt(name: str, action: Callable[[], Any]) -> None:
    """Run an action that must fail, and record how it ended."""
    try:
        ended = f"reached: {action()!r}"
    except OSError as error:
        ended = type(error).__name__
    attempts.append({"name": name, "ended": ended})


def connect(host: str, port: int) -> Callable[[], str]:
    """Return an action that opens a TCP connection."""

    def call() -> str:
        with socket.create_connection((host, port), timeout=TIMEOUT_SEC):
            return "connected"

    return call


def connect_ipv6(host: str, port: int) -> Callable[[], str]:
    """Return an action that connects to a link-local address through this container's interface."""

    def call() -> str:
        with socket.socket(socket.AF_INET6) as connection:
            connection.settimeout(TIMEOUT_SEC)
            connection.connect((host, port, 0, socket.if_nametoindex("eth0")))
            return "connected"

    return call


def multicast_ipv6() -> int:
    """Send a datagram to all IPv6 nodes of the network."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as channel:
        return channel.sendto(b"hello", ("ff02::1", 9, 0, socket.if_nametoindex("eth0")))


def ask(host: str, port: int, question: bytes) -> Callable[[], bytes]:
    """Return an action that sends a datagram and reads the answer."""

    def call() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            channel.settimeout(0.5)
            channel.connect((host, port))
            channel.send(question)
            return channel.recv(1500)

    return call


def ping(host: str) -> Callable[[], bytes]:
    """Return an action that sends an unprivileged echo request and reads the answer."""

    def call() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as channel:
            channel.settimeout(0.5)
            channel.sendto(b"\x08\x00\xf7\xff\x00\x00\x00\x00", (host, 0))
            return channel.recv(1500)

    return call


def resolver_sockets() -> list[tuple[str, int]]:
    """Return where Docker's embedded resolver listens: port 53 and the real ports behind its NAT."""
    found = [("tcp", 53), ("udp", 53)]
    for kind in ("tcp", "udp"):
        with open(f"/proc/net/{kind}") as table:
            for line in table.readlines()[1:]:
                address, port = line.split()[1].split(":")
                if address == "0B00007F":
                    found.append((kind, int(port, 16)))
    return found


def raw(family: int, kind: int, protocol: int) -> Callable[[], str]:
    """Return an action that opens a socket which could read or forge packets."""

    def call() -> str:
        socket.socket(family, kind, protocol).close()
        return "opened"

    return call


targets = json.load(sys.stdin)
question = b"\0\7\1\0\0\1\0\0\0\0\0\0" + b"\4name\7invalid\0\0\1\0\1"
own_address = socket.gethostbyname(socket.gethostname())
for host, port in targets["tcp"]:
    attempt(f"tcp {host}:{port}", connect(host, port))
for host, port in targets["udp"]:
    attempt(f"udp {host}:{port}", ask(host, port, b"hello"))
    attempt(f"ping {host}", ping(host))
for kind, port in resolver_sockets():
    action = connect("127.0.0.11", port) if kind == "tcp" else ask("127.0.0.11", port, question)
    attempt(f"resolver {kind} {port}", action)
for host, port in targets["ipv6"]:
    attempt(f"ipv6 {host}", connect_ipv6(host, port))
attempt("ipv6 multicast", multicast_ipv6)
for host, port in targets["supervisor"]:
    attempt(f"supervisor {host}", connect(host, port))
    attempt("supervisor own address", connect(own_address, port))
attempt("look up a name", lambda: socket.getaddrinfo("name.invalid", 80))
attempt("fetch a page", lambda: urllib.request.urlopen("http://name.invalid/", timeout=TIMEOUT_SEC))
attempt("raw IP", raw(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
attempt("raw TCP", raw(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP))
attempt("packets", raw(socket.AF_PACKET, socket.SOCK_RAW, 0x0300))
print(json.dumps(attempts))
