"""Listeners on this machine, which no kernel may reach, and the addresses of this machine."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Listeners:
    """A TCP and a UDP listener on one port of every address of this machine, IPv4 and IPv6."""

    def __init__(self) -> None:
        self.received: list[str] = []
        """Each connection and datagram, as text with the sender's address."""
        self._tcp = socket.create_server(("0.0.0.0", 0))
        self.port: int = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("0.0.0.0", self.port))
        self._open: list[socket.socket] = [self._tcp, self._udp]
        if Path("/proc/net/if_inet6").exists():
            self._open.append(socket.create_server(("::", self.port), family=socket.AF_INET6))
        self._threads = [
            threading.Thread(target=self._listen, args=(listener,), daemon=True) for listener in self._open
        ]
        for listener in self._open:
            listener.settimeout(0.2)
        self._closing = threading.Event()
        for thread in self._threads:
            thread.start()

    def _listen(self, listener: socket.socket) -> None:
        while not self._closing.is_set():
            try:
                if listener.type == socket.SOCK_DGRAM:
                    data, peer = listener.recvfrom(1500)
                    self.received.append(f"udp {data!r} from {peer[0]}")
                else:
                    connection, peer = listener.accept()
                    connection.close()
                    self.received.append(f"tcp from {peer[0]}")
            except TimeoutError:
                continue

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        for thread in self._threads:
            thread.join()
        for listener in self._open:
            listener.close()


@contextmanager
def listeners() -> Iterator[Listeners]:
    """Listen during the block."""
    opened = Listeners()
    try:
        yield opened
    finally:
        opened.close()


def own_addresses() -> set[str]:
    """Return the IPv4 addresses of this machine's interfaces, without loopback. Nothing is sent."""
    found = set()
    for line in Path("/proc/net/fib_trie").read_text().split("Local:")[-1].splitlines():
        word = line.split()
        if len(word) == 2 and word[0] == "|--":
            address = word[1]
        elif "/32 host LOCAL" in line:
            found.add(address)
    return {address for address in found if not address.startswith("127.")}


def link_local(interface: str) -> str | None:
    """Return this machine's IPv6 link-local address on an interface, or None."""
    table = Path("/proc/net/if_inet6")
    for line in table.read_text().splitlines() if table.exists() else []:
        digits, _, _, scope, _, name = line.split()
        if name == interface and scope == "20":
            return ":".join(digits[i : i + 4] for i in range(0, 32, 4))
    return None
