"""Bytes on a connection, for requests that no client library sends."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.process import Service


@contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    """Open a TCP connection to the service."""
    address = httpx.URL(service.base_url)
    with socket.create_connection((address.host, address.port), 60) as client:
        yield client


def send_endlessly(service: Service, begin: bytes, piece: bytes, most_bytes: int) -> bytes:
    """Send `begin`, then `piece` again and again until the service answers or closes; return the answer.

    Returns:
        What the service has sent until it closed the connection, or until `most_bytes` were sent.
    """
    with connected(service) as client:
        received = bytearray()
        closed = threading.Event()

        def read() -> None:
            try:
                while data := client.recv(65536):
                    received.extend(data)
            except OSError:
                pass
            closed.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            client.sendall(begin)
            for _ in range(most_bytes // len(piece)):
                if closed.is_set():
                    break
                client.sendall(piece)
        except OSError:
            pass
        closed.wait(20)
        return bytes(received)


def status(answer: bytes) -> int:
    """Return the status of the first response; 0 if there is none."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


def chunk(data: bytes) -> bytes:
    """Return a chunk of a body with Transfer-Encoding: chunked."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def head(method: str, path: str, *fields: str) -> bytes:
    """Return the head of a request with a chunked body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", *fields, "", ""]
    return "\r\n".join(lines).encode()
