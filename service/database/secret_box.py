"""Encrypts the secrets in the registry, so that a copy of the registry alone gives access to no container."""

import base64
import hashlib
import hmac
import json
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sessions.errors import SecretUnreadable

_PREFIX: Final = "1."
"""Marks encrypted values, and the way in which they are encrypted: AES-256 in Galois/Counter Mode."""
_NONCE_BYTES: Final = 12


class SecretBox:
    """Encrypts and decrypts with one key.

    Each value is bound to its place, such as its column and the id of its row. A value that was copied to
    another place cannot be decrypted there.
    """

    def __init__(self, key: str) -> None:
        """Derive the keys of this box from a long random text."""
        self._cipher = AESGCM(_derive(key, "encryption"))
        self.fingerprint = _derive(key, "fingerprint").hex()[:32]
        """Identifies the key, and does not reveal it."""

    def seal(self, secret: str, *place: object) -> str:
        """Return a secret, encrypted for one place in the registry."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, secret.encode(), _bytes_of(place))
        return _PREFIX + base64.urlsafe_b64encode(nonce + sealed).decode()

    def open(self, sealed: str, *place: object) -> str:
        """Return the secret of one place. Raises ``SecretUnreadable`` if it was not encrypted for it."""
        try:
            if not sealed.startswith(_PREFIX):
                raise SecretUnreadable
            data = base64.urlsafe_b64decode(sealed[len(_PREFIX) :])
            return self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _bytes_of(place)).decode()
        except (InvalidTag, ValueError):
            raise SecretUnreadable from None


def _derive(key: str, purpose: str) -> bytes:
    return hmac.digest(key.encode(), f"code-interpreter registry {purpose}".encode(), hashlib.sha256)


def _bytes_of(place: tuple[object, ...]) -> bytes:
    return json.dumps(place).encode()
