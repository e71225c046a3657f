"""The container's TLS certificate, made at its start, and the proof that it belongs to the container.

An attacker on the network path could present a certificate of their own. But the proof can be made
only with the digest of the supervisor's token, and nothing sends that over the network before.
"""

import datetime
import hashlib
import hmac
import os
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_DAYS = 3650


class ContainerCertificate:
    """A self-signed certificate, with its key and its proof. The key never leaves this process.

    Attributes:
        ssl_context: the server side of TLS with this certificate.
        proof: HMAC-SHA256, in hex, of the certificate's SHA-256 fingerprint under the token's digest.
    """

    def __init__(self, token_digest: str) -> None:
        """Make a new key and certificate. `token_digest` is the one in PID 1's environment."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kernel")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=_DAYS))
            .not_valid_after(now + datetime.timedelta(days=_DAYS))
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        self.ssl_context = _ssl_context(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + certificate.public_bytes(pem)
        )
        fingerprint = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()
        self.proof = hmac.new(token_digest.encode(), fingerprint, hashlib.sha256).hexdigest()


def _ssl_context(pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The ssl module loads a certificate only from a path.
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context
