"""The part of the probe that finds out what user code can reach over the network."""

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from kernel_image import contract
from kernel_image.confinement.attempt import outcome

_TIMEOUT_SEC: Final = 1.0
_RESOLVER: Final = ("127.0.0.11", 53)
_DNS_QUERY: Final = b"\0\7\1\0\0\1\0\0\0\0\0\0\4name\7invalid\0\0\1\0\1"
_ECHO_REQUEST: Final = b"\x08\x00\xf7\xff\x00\x00\x00\x00"
_ANY_PORT: Final = 9


def _connect(host: str, port: int) -> None:
    socket.create_connection((host, port), _TIMEOUT_SEC).close()


def _send(family: int, *address: Any) -> None:
    """Send a datagram. A closed network refuses it; an open one takes it, even if nothing receives it."""
    with socket.socket(family, socket.SOCK_DGRAM) as channel:
        channel.sendto(b"code-interpreter", address)


def _ping(host: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as channel:
        channel.sendto(_ECHO_REQUEST, (host, 0))


def _query_resolver() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.settimeout(_TIMEOUT_SEC)
        channel.connect(_RESOLVER)
        channel.send(_DNS_QUERY)
        channel.recv(1500)


def _reach(targets: dict[str, Any]) -> dict[str, dict[str, str]]:
    found = {
        group: {f"tcp {host}:{port}": outcome(_connect, host, port) for host, port in addresses}
        for group, addresses in targets["tcp"].items()
    }
    found["udp"] = {
        f"udp {host}:{port}": outcome(_send, socket.AF_INET, host, port) for host, port in targets["udp"]
    }
    found["ping"] = {f"ping {host}": outcome(_ping, host) for host, _ in targets["udp"]}
    return found


def _resolver() -> dict[str, str]:
    return {"tcp": outcome(_connect, *_RESOLVER), "udp": outcome(_query_resolver)}


def _supervisor() -> dict[str, str]:
    """Try to connect to the supervisor's port, on loopback and on this container's own addresses."""
    own = {found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    hosts = sorted({"127.0.0.1", *map(str, own)})
    return {host: outcome(_connect, host, contract.SUPERVISOR_PORT) for host in hosts}


def _ipv6() -> dict[str, str]:
    """Send a datagram to all IPv6 nodes of the network, through each interface but loopback."""
    table = Path("/proc/net/if_inet6")
    lines = table.read_text().splitlines() if table.exists() else []
    names = sorted({line.split()[5] for line in lines} - {"lo"})
    return {
        name: outcome(_send, socket.AF_INET6, "ff02::1", _ANY_PORT, 0, socket.if_nametoindex(name))
        for name in names
    }


def _add_loopback_address() -> None:
    """Add the address 127.0.0.2 to `lo`: a harmless change, which the network must refuse nevertheless."""
    new_address, request_ack_create, error_message, local_address = 20, 0x405, 2, 2
    body = struct.pack("=BBBBI", socket.AF_INET, 8, 0, 0, socket.if_nametoindex("lo"))
    body += struct.pack("=HH4s", 8, local_address, socket.inet_aton("127.0.0.2"))
    message = struct.pack("=IHHII", 16 + len(body), new_address, request_ack_create, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(_TIMEOUT_SEC)
        netlink.send(message)
        answer = netlink.recv(4096)
    _, kind = struct.unpack_from("=IH", answer)
    (code,) = struct.unpack_from("=i", answer, 16)
    if kind == error_message and code != 0:
        raise OSError(-code, os.strerror(-code))


def sources(targets: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Return the facts about the network by name, each as a function that finds it out.

    Args:
        targets: the addresses to try, see `probe`.
    """
    return {
        "reach": lambda: _reach(targets),
        "resolver": _resolver,
        "supervisor": _supervisor,
        "ipv6": _ipv6,
        "netlink change": lambda: outcome(_add_loopback_address),
    }
