"""What goes over the network between the service and its pods, as somebody on the way sees it."""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

import pytest

from kernel_image import contract
from tests.support.cluster import PodEngine
from tests.support.ears import ALL, overheard
from tests.support.process import Service


def test_nothing_can_be_read_on_the_way(on_pods: Service) -> None:
    """Neither the code nor what it prints, shows, or is given, nor the supervisor's token."""
    assert overheard(on_pods) == set()


def test_without_encryption_it_can(pods: PodEngine, start_on: Callable[..., Service]) -> None:
    """KERNEL_ENCRYPTION=never: the same ears hear all of it, so they are good ears."""
    service = start_on(pods, POOL_SIZE=1, KERNEL_ENCRYPTION="never")
    assert overheard(service) == ALL
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
