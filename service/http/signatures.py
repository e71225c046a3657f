"""How replicas sign the calls that they pass on to each other.

The replica that a call reached has checked the caller's key. It names the caller in one header. A second
header is the signature of the first one, the method and the path, made with the secret that replicas share.
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
    """A call was passed on too long ago: the other replica no longer waits for its answer."""


class Signer:
    """Signs the caller of a call that is passed on, and checks such signatures."""

    def __init__(self, secret: str, valid_sec: float) -> None:
        """`valid_sec`: for how long, by two machines' clocks, a call may be on its way."""
        self._secret = secret.encode()
        self._valid_sec = valid_sec

    def headers(self, caller: Caller, method: str, path: str) -> dict[str, str]:
        """The headers of a call that is passed on now."""
        told = json.dumps([caller.owner, caller.tenant, time.time() + self._valid_sec])
        value = base64.urlsafe_b64encode(told.encode()).decode()
        return {CALLER_HEADER: value, SIGNATURE_HEADER: self._signature(value, method, path)}

    def caller(self, headers: Iterable[tuple[bytes, bytes]], method: str, path: str) -> Caller | None:
        """Return the caller of a call that a replica passed on; None for other calls. Raises `Stale`."""
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
                "another replica's call comes %.0f s late, or its clock and this one's differ", late_sec
            )
            raise Stale
        return Caller(owner, tenant)

    def _signature(self, value: str, method: str, path: str) -> str:
        return hmac.new(self._secret, f"{method}\n{path}\n{value}".encode(), hashlib.sha256).hexdigest()


def path_of(scope: Scope) -> str:
    """Path and query as they were sent."""
    path: str = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
    query: str = scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path
