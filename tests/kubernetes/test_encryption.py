"""The traffic between the service and its pods, as it appears on the network."""

import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from kernel_image import contract
from tests.support.cluster import PodEngine
from tests.support.process import Service
from tests.support.session import new_session
from tests.support.traffic import ALL, readable_parts


def test_nothing_can_be_read_on_the_way(on_pods: Service) -> None:
    """Code, output, displays, input and the supervisor's token do not appear in the traffic."""
    assert readable_parts(on_pods) == set()


def test_traffic_without_encryption_can_be_read(pods: PodEngine, start_on: Callable[..., Service]) -> None:
    """With KERNEL_ENCRYPTION=never all of it appears, so the test can see the traffic."""
    service = start_on(pods, POOL_SIZE=1, KERNEL_ENCRYPTION="never")
    assert readable_parts(service) == ALL
    service.finish()


def test_pods_ports_use_tls(on_pods: Service, pods: PodEngine) -> None:
    """All ports use TLS 1.3, with a certificate that no other pod has."""
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
    """The connection of a request without TLS is closed."""
    on_pods.settle()
    host = pods.pods(on_pods.instance_id)[0]["status"]["podIP"]
    with socket.create_connection((host, port), 5) as plain:
        plain.sendall(b"GET /status HTTP/1.1\r\nHost: kernel\r\n\r\n")
        with suppress(ConnectionResetError):
            assert not plain.recv(1000).startswith((b"HTTP", b"\xff"))


def test_connections_are_reused(on_pods: Service, pods: PodEngine) -> None:
    """A handshake for each file would cost time, and keep a descriptor open for minutes."""
    with new_session(on_pods) as session:
        session.run("for i in range(30): open(f'{i}', 'w').write('x')")
        address = session.printed("import socket; print(socket.gethostbyname(socket.gethostname()))")
        assert 1 <= connections(on_pods.process.pid, (address, contract.SUPERVISOR_PORT)) < 10


def connections(pid: int, to: tuple[str, int]) -> int:
    """Return the number of TCP connections of a process to an address."""
    address = f"{socket.inet_aton(to[0])[::-1].hex().upper()}:{to[1]:04X}"
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[2] == address}
    folder = Path(f"/proc/{pid}/fd")
    return sum(os.readlink(file) in {f"socket:[{inode}]" for inode in inodes} for file in folder.iterdir())
