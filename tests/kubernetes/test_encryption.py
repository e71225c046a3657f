"""What goes over the network between the service and its pods, as somebody on the way sees it."""

import socket
import sqlite3
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from kernel_image import contract
from tests.support.cluster import PodEngine
from tests.support.process import Service
from tests.support.session import new_session

ALL_PROTOCOLS = 0x0003
BRIDGE = "docker0"


@contextmanager
def tapped() -> Iterator[bytearray]:
    """Everything that crosses the pods' bridge for as long as the block."""
    heard, over = bytearray(), threading.Event()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS)) as tap:
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        tap.bind((BRIDGE, 0))
        tap.settimeout(0.1)

        def listen() -> None:
            while not over.is_set():
                try:
                    heard.extend(tap.recv(1 << 16))
                except TimeoutError:
                    continue

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield heard
            time.sleep(0.3)
        finally:
            over.set()
            listener.join()


def said(service: Service) -> dict[str, bool]:
    """What of a call somebody on the way could read: its code, its text, its output, its file, a token."""
    words = {what: uuid.uuid4().hex for what in ("code", "text", "display", "file")}
    code = (
        f"# {words['code']}\n"
        f"print(''.join(reversed('{words['text'][::-1]}')))\n"
        f"from IPython.display import display, HTML\n"
        f"display(HTML(''.join(reversed('{words['display'][::-1]}'))))"
    )
    with tapped() as heard, new_session(service) as session:
        session.put("given.txt", words["file"].encode())
        result = session.run(code)
        assert result["stdout"] == words["text"] + "\n"
        assert words["display"] in str(result["outputs"])
    assert len(heard) > 1000, "nothing was heard at all"
    with sqlite3.connect(service.storage / "registry.sqlite3") as registry:
        tokens = [row[0] for row in registry.execute("SELECT token FROM containers")]
    return {what: word.encode() in heard for what, word in words.items()} | {
        "token": any(token.encode() in heard for token in tokens)
    }


def test_nothing_can_be_read_on_the_way(on_pods: Service) -> None:
    """Neither the code nor what it prints, shows, or is given, nor the supervisor's token."""
    assert set(said(on_pods).values()) == {False}


def test_without_encryption_it_can(pods: PodEngine, start_on: Callable[..., Service]) -> None:
    """KUBERNETES_ENCRYPT=0: the same ears hear all of it, so they are good ears."""
    service = start_on(pods, POOL_SIZE=1, KUBERNETES_ENCRYPT="0")
    assert set(said(service).values()) == {True}
    service.finish()


def test_a_pods_ports_speak_tls_alone(on_pods: Service, pods: PodEngine) -> None:
    """Version 1.3, with a certificate that no other pod has."""
    on_pods.settle()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    shown: dict[str, set[bytes | None]] = {}
    for pod in pods.pods(on_pods.instance_id):
        for port in contract.PORTS:
            address = (pod["status"]["podIP"], port)
            with (
                socket.create_connection(address, 5) as plain,
                context.wrap_socket(plain) as secured,
            ):
                assert secured.version() == "TLSv1.3"
                shown.setdefault(address[0], set()).add(secured.getpeercert(binary_form=True))
    assert all(len(certificates) == 1 for certificates in shown.values())
    assert len(set.union(*shown.values())) == len(shown) >= 2


@pytest.mark.parametrize("port", contract.PORTS)
def test_plain_text_gets_no_answer(on_pods: Service, pods: PodEngine, port: int) -> None:
    """A request without TLS is hung up on."""
    on_pods.settle()
    host = pods.pods(on_pods.instance_id)[0]["status"]["podIP"]
    with socket.create_connection((host, port), 5) as plain:
        plain.sendall(b"GET /status HTTP/1.1\r\nHost: kernel\r\n\r\n")
        with suppress(ConnectionResetError):
            assert not plain.recv(1000).startswith((b"HTTP", b"\xff"))
