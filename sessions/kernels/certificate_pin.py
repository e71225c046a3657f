"""TLS to one container, by the certificate that the container has made for itself.

`kernel_image.supervisor.certificate` is the other end. No authority signs the certificate. The container
proves that the certificate is its own by its knowledge of the supervisor's token.
The token itself is sent only afterwards.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import ssl
from typing import Final

from kernel_image import contract
from sessions.kernels.errors import SupervisorFailed
from sessions.models import Container

_HELLO_SEC: Final = 5.0
_ANSWER_BYTES: Final = 1 << 13
_QUESTION: Final = b"GET /identity HTTP/1.1\r\nHost: kernel\r\nConnection: close\r\n\r\n"


def _anyones() -> ssl.SSLContext:
    """Takes every certificate: which one it has to be is looked at afterwards."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


CONTEXT: Final = _anyones()


class CertificatePin:
    """What is known of one container's certificate."""

    def __init__(self, container: Container, token: str) -> None:
        self._container = container
        self._digest = hashlib.sha256(token.encode()).hexdigest()
        self._fingerprint: bytes | None = None

    async def fingerprint(self) -> bytes:
        """SHA-256 of the container's certificate, asked for once.

        Raises:
            SupervisorFailed: the container does not answer, or somebody else does.
        """
        if self._fingerprint is None:
            try:
                async with asyncio.timeout(_HELLO_SEC):
                    self._fingerprint = await self._ask()
            except (OSError, EOFError, ValueError, LookupError, TypeError, RecursionError) as error:
                raise SupervisorFailed(f"no identity ({type(error).__name__})") from error
        return self._fingerprint

    async def _ask(self) -> bytes:
        port = self._container.ports[contract.SUPERVISOR_PORT]
        reader, writer = await asyncio.open_connection(self._container.host, port, ssl=CONTEXT)
        try:
            found = presented(writer)
            writer.write(_QUESTION)
            answer = b""
            with contextlib.suppress(asyncio.IncompleteReadError):
                while len(answer) < _ANSWER_BYTES and (data := await reader.read(_ANSWER_BYTES)):
                    answer += data
            proof = json.loads(answer.partition(b"\r\n\r\n")[2])["proof"]
        finally:
            writer.transport.abort()
        expected = hmac.new(self._digest.encode(), found, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(str(proof).encode(), expected.encode()):
            raise SupervisorFailed("its certificate is somebody else's")
        return found


def presented(writer: asyncio.StreamWriter) -> bytes:
    """SHA-256 of the certificate that the other end of a TLS connection has shown."""
    secured: ssl.SSLObject = writer.get_extra_info("ssl_object")
    return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").digest()
