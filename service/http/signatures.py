"""Signatures of the calls that replicas forward to each other.

The first replica checks the caller's key, and names the caller in one header. A second header is the
signature of the first one, the method and the path, made with the secret that replicas share.
"""

import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Iterable
from typing import Final

from starlette.types import Scope

from sessions.models import Caller

log = logging.getLogger(__name__)

CALLER_HEADER: Final = "x-replica-caller"
SIGNATURE_HEADER: Final = "x-replica-signature"


class Stale(Exception):
    """A call was forwarded too long ago. The other replica no longer waits for the response."""


class Signer:
    """Signs the callers of forwarded calls, and checks such signatures."""

    def __init__(self, secret: str, valid_sec: float) -> None:
        """Make a signer.

        Args:
            secret: the secret that all replicas share.
            valid_sec: how long a signature is valid, in seconds, including the difference of the clocks.
        """
        self._secret = secret.encode()
        self._valid_sec = valid_sec

    def headers(self, caller: Caller, method: str, path: str) -> dict[str, str]:
        """Return the headers of a call that is forwarded now."""
        claims = json.dumps([caller.owner, caller.tenant, time.time() + self._valid_sec])
        value = base64.urlsafe_b64encode(claims.encode()).decode()
        return {CALLER_HEADER: value, SIGNATURE_HEADER: self._signature(value, method, path)}

    def caller(self, headers: Iterable[tuple[bytes, bytes]], method: str, path: str) -> Caller | None:
        """Return the caller of a forwarded call; None if the call has no valid signature.

        Raises:
            Stale: the signature is no longer valid.
        """
        found = {name: value.decode("latin-1") for name, value in headers if name.startswith(b"x-replica-")}
        value = found.get(CALLER_HEADER.encode(), "")
        signature = found.get(SIGNATURE_HEADER.encode(), "")
        expected = self._signature(value, method, path)
        if not value or not hmac.compare_digest(signature.encode(), expected.encode()):
            return None
        owner, tenant, until = json.loads(base64.urlsafe_b64decode(value))
        late_sec = time.time() - until
        if late_sec > 0:
            log.warning(
                "another replica's call arrived %.0f s too late, or the clocks of the replicas differ",
                late_sec,
            )
            raise Stale
        return Caller(owner, tenant)

    def _signature(self, value: str, method: str, path: str) -> str:
        return hmac.new(self._secret, f"{method}\n{path}\n{value}".encode(), hashlib.sha256).hexdigest()


def path_of(scope: Scope) -> str:
    """Return path and query of a request as they were sent."""
    path: str = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
    query: str = scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path
