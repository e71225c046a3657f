"""TLS to one container, with the certificate that the container has made for itself.

`kernel_image.supervisor.certificate` is the other side. No authority signs the certificate. The container
proves that the certificate is its own by its knowledge of the supervisor's token. The token itself is sent
afterwards.
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

_IDENTITY_SEC: Final = 5.0
_RESPONSE_BYTES: Final = 1 << 13
_REQUEST: Final = b"GET /identity HTTP/1.1\r\nHost: kernel\r\nConnection: close\r\n\r\n"


def _unverified_context() -> ssl.SSLContext:
    """Return a context that accepts every certificate: the caller compares the fingerprint afterwards."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


CONTEXT: Final = _unverified_context()


class CertificatePin:
    """The certificate of one container: all connections to the container must present it."""

    def __init__(self, container: Container, token: str) -> None:
        self._container = container
        self._digest = hashlib.sha256(token.encode()).hexdigest()
        self._fingerprint: bytes | None = None

    async def fingerprint(self) -> bytes:
        """Return the SHA-256 of the container's certificate. The first call asks the container for it.

        Raises:
            SupervisorFailed: the container does not answer, or the certificate is not the container's.
        """
        if self._fingerprint is None:
            try:
                async with asyncio.timeout(_IDENTITY_SEC):
                    self._fingerprint = await self._request_proof()
            except (OSError, EOFError, ValueError, LookupError, TypeError, RecursionError) as error:
                raise SupervisorFailed(
                    f"it does not prove that its certificate is its own ({type(error).__name__})"
                ) from error
        return self._fingerprint

    async def _request_proof(self) -> bytes:
        port = self._container.ports[contract.SUPERVISOR_PORT]
        reader, writer = await asyncio.open_connection(self._container.host, port, ssl=CONTEXT)
        try:
            found = presented(writer)
            writer.write(_REQUEST)
            response = b""
            with contextlib.suppress(asyncio.IncompleteReadError):
                while len(response) < _RESPONSE_BYTES and (data := await reader.read(_RESPONSE_BYTES)):
                    response += data
            proof = json.loads(response.partition(b"\r\n\r\n")[2])["proof"]
        finally:
            writer.transport.abort()
        expected = hmac.new(self._digest.encode(), found, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(str(proof).encode(), expected.encode()):
            raise SupervisorFailed("the certificate is not the container's")
        return found


def presented(writer: asyncio.StreamWriter) -> bytes:
    """Return the SHA-256 of the certificate that the other side of a TLS connection has presented."""
    secured: ssl.SSLObject = writer.get_extra_info("ssl_object")
    return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").digest()
