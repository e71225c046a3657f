"""TLS to a container: only the certificate of the container is accepted, before the token is sent."""

import asyncio
import hashlib
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest

from kernel_image import contract
from kernel_image.supervisor.certificate import ContainerCertificate
from sessions.containers.errors import EngineUnavailable
from sessions.kernels.certificate_pin import CertificatePin
from sessions.kernels.channel import Channel, ChannelBroken
from sessions.kernels.errors import SupervisorFailed
from sessions.kernels.supervisor_client import SupervisorClient
from sessions.models import Container

TOKEN = secrets.token_hex(32)
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()


@dataclass
class Listener:
    """A server on all of a container's ports, and the heads of the requests that it received."""

    container: Container
    received: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def listening(context: ssl.SSLContext | None, answer: Callable[[], bytes]) -> AsyncIterator[Listener]:
    """Serve `answer()` as the body of each response, with TLS if there is a context."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            listener.received.append(await reader.readuntil(b"\r\n\r\n"))
            body = answer()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    listener = Listener(Container("0", "container", "127.0.0.1", dict.fromkeys(contract.PORTS, port)))
    try:
        yield listener
    finally:
        server.close()


def proving(certificate: ContainerCertificate) -> Callable[[], bytes]:
    """Return the answer of a supervisor with that certificate."""
    return lambda: json.dumps({"proof": certificate.proof}).encode()


def _no_engine() -> AbstractAsyncContextManager[None]:
    raise EngineUnavailable("there is none here")


async def call(listener: Listener) -> None:
    """Make a call with the token to the supervisor."""
    async with aiohttp.ClientSession() as http:
        client = SupervisorClient(
            http, listener.container, TOKEN, _no_engine, CertificatePin(listener.container, TOKEN)
        )
        await client.renew_lease(1)


async def test_own_certificate_of_the_container_is_accepted() -> None:
    """The client asks for the proof once, without the token. Calls with the token follow."""
    certificate = ContainerCertificate(DIGEST)
    async with listening(certificate.ssl_context, proving(certificate)) as listener:
        await call(listener)
    question, request = listener.received
    assert question.startswith(b"GET /identity ") and TOKEN.encode() not in question
    assert TOKEN.encode() in request


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(proving(ContainerCertificate("guessed")), id="a proof by another digest"),
        pytest.param(proving(ContainerCertificate(DIGEST)), id="the proof of another certificate"),
        pytest.param(lambda: b'{"proof": null}', id="no proof"),
        pytest.param(lambda: b"[" * 5000, id="no JSON"),
        pytest.param(lambda: b"{}", id="nothing"),
        pytest.param(lambda: b"x" * 100_000, id="too large"),
    ],
)
async def test_certificate_of_another_server_is_rejected(answer: Callable[[], bytes]) -> None:
    """A server in between has its own certificate and can forward any answer: it never gets the token."""
    async with listening(ContainerCertificate("another digest").ssl_context, answer) as listener:
        with pytest.raises(SupervisorFailed):
            await call(listener)
    assert not [request for request in listener.received if TOKEN.encode() in request]


async def test_certificate_that_changes_is_rejected() -> None:
    """The fingerprint is kept after the proof, for the kernel's channels and for the supervisor's calls."""
    certificate = ContainerCertificate(DIGEST)
    async with listening(certificate.ssl_context, proving(certificate)) as listener:
        pin = CertificatePin(listener.container, TOKEN)
        await pin.fingerprint()
    async with listening(ContainerCertificate(DIGEST).ssl_context, proving(certificate)) as impostor:
        container = impostor.container
        channel = Channel(container.host, container.ports[contract.SHELL_PORT], b"DEALER", pin)
        with pytest.raises(ChannelBroken, match="not the container's"):
            await channel.open()
        async with aiohttp.ClientSession() as http:
            client = SupervisorClient(http, container, TOKEN, _no_engine, pin)
            with pytest.raises(SupervisorFailed):
                await client.renew_lease(1)
    assert impostor.received == []


async def test_supervisor_without_tls_gets_no_token() -> None:
    """If TLS is expected, a plain connection fails and is not used instead."""
    async with listening(None, lambda: b"{}") as listener:
        with pytest.raises(SupervisorFailed):
            await call(listener)
    assert listener.received == []
