"""TLS to a container: its own certificate is taken, and nobody else's; the token is told to no other."""

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
    """Who listens on all of a container's ports, and what it was told."""

    container: Container
    heard: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def listening(context: ssl.SSLContext | None, answer: Callable[[], bytes]) -> AsyncIterator[Listener]:
    """Answer each request with a body."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            listener.heard.append(await reader.readuntil(b"\r\n\r\n"))
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
    """Answer as a supervisor with that certificate does."""
    return lambda: json.dumps({"proof": certificate.proof}).encode()


def _no_engine() -> AbstractAsyncContextManager[None]:
    raise EngineUnavailable("there is none here")


async def call(listener: Listener) -> None:
    """A call to the supervisor, with the token."""
    async with aiohttp.ClientSession() as http:
        client = SupervisorClient(
            http, listener.container, TOKEN, _no_engine, CertificatePin(listener.container, TOKEN)
        )
        await client.renew_lease(1)


async def test_the_containers_own_certificate_is_taken() -> None:
    """It is asked for once, without the token; calls with the token follow."""
    certificate = ContainerCertificate(DIGEST)
    async with listening(certificate.ssl_context, proving(certificate)) as listener:
        await call(listener)
    question, request = listener.heard
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
        pytest.param(lambda: b"x" * 100_000, id="too much"),
    ],
)
async def test_nobody_elses_certificate_is_taken(answer: Callable[[], bytes]) -> None:
    """Who sits on the way has a certificate, and whatever the container says: the token stays untold."""
    async with listening(ContainerCertificate("of somebody else").ssl_context, answer) as listener:
        with pytest.raises(SupervisorFailed):
            await call(listener)
    assert not [request for request in listener.heard if TOKEN.encode() in request]


async def test_a_certificate_that_changes_is_not_taken() -> None:
    """What was proved is held on to, for the kernel's channels as for the supervisor's calls."""
    certificate = ContainerCertificate(DIGEST)
    async with listening(certificate.ssl_context, proving(certificate)) as listener:
        pin = CertificatePin(listener.container, TOKEN)
        await pin.fingerprint()
    async with listening(ContainerCertificate(DIGEST).ssl_context, proving(certificate)) as impostor:
        where = impostor.container
        channel = Channel(where.host, where.ports[contract.SHELL_PORT], b"DEALER", pin)
        with pytest.raises(ChannelBroken, match="somebody else's"):
            await channel.open()
        async with aiohttp.ClientSession() as http:
            client = SupervisorClient(http, where, TOKEN, _no_engine, pin)
            with pytest.raises(SupervisorFailed):
                await client.renew_lease(1)
    assert impostor.heard == []


async def test_a_supervisor_without_tls_is_not_spoken_to() -> None:
    """Where TLS is wanted, its absence is a failure and not a way round."""
    async with listening(None, lambda: b"{}") as listener:
        with pytest.raises(SupervisorFailed):
            await call(listener)
    assert listener.heard == []
