"""The base of all handlers of the supervisor's API: the token check, JSON bodies, and error responses."""

import contextlib
import errno
import hashlib
import hmac
import json
from collections.abc import Awaitable
from typing import Any

import tornado.web

from kernel_image.supervisor.supervisor import Supervisor
from kernel_image.supervisor.workspace import NotRegular


class Handler(tornado.web.RequestHandler):
    """Checks the bearer token of each request, and answers errors as JSON."""

    def initialize(self, supervisor: Supervisor, token_digest: str) -> None:
        self.supervisor = supervisor
        self._token_digest = token_digest

    def prepare(self) -> Awaitable[None] | None:
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        digest = hashlib.sha256(token.encode()).hexdigest()
        if scheme != "Bearer" or not hmac.compare_digest(digest, self._token_digest):
            raise tornado.web.HTTPError(401)
        with contextlib.suppress(OSError, AttributeError):
            self.request.connection.stream.set_nodelay(True)  # type: ignore[union-attr]
        return None

    def json(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.request.body or b"{}")
        return body

    def refuse(self, status: int, error: object, **facts: str) -> None:
        self.set_status(status)
        self.finish({"error": str(error), **facts})

    def refuse_os_error(self, error: OSError) -> None:
        self.refuse(_status_of(error), error)


def _status_of(error: OSError) -> int:
    """Return the HTTP status for an error of the workspace."""
    if isinstance(error, NotRegular):
        return 409
    known = {
        errno.ENOENT: 404,
        errno.EACCES: 403,
        errno.ENOSPC: 507,
        errno.EDQUOT: 507,
        errno.EEXIST: 409,
    }
    return known.get(error.errno or 0, 400)
