"""Find the caller of every request, or refuse the request, before a route or a body is read.

Open paths are listed. A new route needs a key until it is listed, and every WebSocket needs one.
Browsers let any page open one, and send it a key that they have: so a page's has to be of this service,
and so do its requests to kernels.
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
"""For probes and load balancers, which have no key; they tell counts and no names, ids or content."""

_CALLER = "caller"
_JUPYTER: Final = "/api/"
_MOST_PARAMETERS: Final = 100


class Guard:
    """ASGI middleware: puts the `Caller` where `caller_of` finds it, or answers 401 or 429.

    Without a `keyring` everybody is the same caller, and closed pages are not there.
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
            app: what is guarded.
            keyring: the keys; None if the service needs none.
            rate: counts the requests of each owner.
            open_paths: paths that need no key, besides `ALWAYS_OPEN`.
            closed_paths: paths that the settings close: they need a key, and without keys they answer 404.
            signer: checks the signatures of other replicas, which have let in the calls that they pass on.
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
    """The key of a WebSocket's `token` parameter, as a header: a page can't send others with one."""
    if scope["type"] != "websocket":
        return []
    try:
        query = scope["query_string"].decode("latin-1")
        tokens = parse_qs(query, encoding="latin-1", max_num_fields=_MOST_PARAMETERS).get("token", [])
    except ValueError:
        raise KeyInvalid from None
    return [(b"x-api-key", token.encode("latin-1")) for token in tokens]


def caller_of(scope: Scope) -> Caller:
    """Return the caller of a request that the guard admitted. ``KeyError`` on an open path."""
    caller: Caller = scope["state"][_CALLER]
    return caller


def key_name(scope: Scope) -> str:
    """The name of a request's key, for the log; ``-`` without one."""
    caller: Caller | None = scope.get("state", {}).get(_CALLER)
    return "-" if caller is None else caller.owner
