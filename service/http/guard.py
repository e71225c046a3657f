"""Finds the caller of every request, or refuses the request, before a route runs or the body is read.

Only the listed paths are open. Any other route, and every WebSocket, needs a key. A browser lets every web
page open WebSockets, and sends its keys along. So WebSockets and requests to kernels are refused if they come
from a web page of another server.
"""

from collections.abc import Collection
from typing import Final
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from service.auth.errors import KeyInvalid
from service.auth.keyring import Keyring, without_keys
from service.auth.limits import RequestRate
from service.http.answers import ErrorResponse, answer_to
from service.http.origin import SAME_SERVICE
from service.http.signatures import Signer, Stale, path_of
from sessions.errors import CallFailed, SessionMoving
from sessions.models import Caller

ALWAYS_OPEN: Final = frozenset({"/health", "/ready"})
"""Open paths for probes and load balancers, which have no key. The responses have no names or content."""

_CALLER = "caller"
_JUPYTER: Final = "/api/"
_MOST_PARAMETERS: Final = 100


class Guard:
    """ASGI middleware: stores the `Caller` for `caller_of`, or answers 401, 403 or 429.

    Without a `keyring`, all requests have the same caller, and closed pages answer 404.
    """

    def __init__(
        self,
        app: ASGIApp,
        keyring: Keyring | None,
        rate: RequestRate,
        open_paths: Collection[str],
        closed_paths: Collection[str],
        signer: Signer | None = None,
    ) -> None:
        """Make the middleware.

        Args:
            app: the application behind the guard.
            keyring: the keys; None if the service needs none.
            rate: counts the requests of each owner.
            open_paths: paths that need no key, besides `ALWAYS_OPEN`.
            closed_paths: paths that the settings close. They need a key; without a keyring, they answer 404.
            signer: checks the signatures of calls that other replicas have admitted and forwarded.
        """
        self._app = app
        self._keyring = keyring
        self._rate = rate
        self._signer = signer
        self._open = ALWAYS_OPEN.union(open_paths)
        self._closed = frozenset(closed_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_socket = scope["type"] == "websocket"
        if is_socket or (scope["type"] == "http" and scope["path"] not in self._open):
            if self._keyring is None and scope["path"] in self._closed:
                await ErrorResponse(404, "not_found", "Not Found")(scope, receive, send)
                return
            try:
                scope.setdefault("state", {})[_CALLER] = self._admit(scope)
            except CallFailed as error:
                await answer_to(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> Caller:
        if self._signer is not None:
            method = scope.get("method", "GET")
            try:
                caller = self._signer.caller(scope["headers"], method, path_of(scope))
            except Stale:
                raise SessionMoving from None
            if caller is not None:
                scope.setdefault("state", {})["passed_on"] = True
                return caller
        headers = [*scope["headers"], *_key_in_query(scope)]
        if scope["type"] == "websocket" or scope["path"].startswith(_JUPYTER):
            SAME_SERVICE.check(headers)
        if self._keyring is None:
            return without_keys(headers)
        caller = self._keyring.find(headers)
        self._rate.count(caller.owner)
        return caller


def _key_in_query(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the `token` parameter of a WebSocket as a header, because web pages cannot set its headers."""
    if scope["type"] != "websocket":
        return []
    try:
        query = scope["query_string"].decode("latin-1")
        tokens = parse_qs(query, encoding="latin-1", max_num_fields=_MOST_PARAMETERS).get("token", [])
    except ValueError:
        raise KeyInvalid from None
    return [(b"x-api-key", token.encode("latin-1")) for token in tokens]


def caller_of(scope: Scope) -> Caller:
    """Return the caller of a request that the guard admitted. Raises ``KeyError`` on an open path."""
    caller: Caller = scope["state"][_CALLER]
    return caller


def key_name(scope: Scope) -> str:
    """Return the name of a request's key, for the log; ``-`` without one."""
    caller: Caller | None = scope.get("state", {}).get(_CALLER)
    return "-" if caller is None else caller.owner
