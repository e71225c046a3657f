"""Finds the caller of every request, or refuses the request, before a route runs or the body is read.

Only the listed paths are open. Any other route, and every WebSocket, needs a key. Requests of browsers are
checked first, see `service.http.browsers`. `/ready` is open, but gives its report only to some callers.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from service.auth.errors import KeyInvalid, KeyMissing, TooManyWrongKeys
from service.auth.keyring import Keyring, without_keys
from service.auth.limits import RequestRate, WrongKeyRate
from service.http.answers import ErrorResponse, answer_to
from service.http.browsers import BrowserRule, KnownHosts, RuleWithKeys, RuleWithoutKeys
from service.http.errors import BrowserRefused
from service.http.peer import is_from_this_machine, peer_of
from service.http.signatures import Signer, Stale, path_of
from sessions.errors import CallFailed, SessionMoving
from sessions.models import Caller

READY: Final = "/ready"
ALWAYS_OPEN: Final = frozenset({"/health", READY})
"""Open paths for probes and load balancers, which have no key. The responses have no names or content."""

_CALLER = "caller"
_SEES_REPORT: Final = "sees_report"
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
        known_hosts: KnownHosts,
        wrong_keys: WrongKeyRate,
        count_wrong_key: Callable[[], None],
        signer: Signer | None = None,
    ) -> None:
        """Make the middleware.

        Args:
            app: the application behind the guard.
            keyring: the keys; None if the service needs none.
            rate: counts the requests of each owner.
            open_paths: paths that need no key, besides `ALWAYS_OPEN`.
            closed_paths: paths that the settings close. They need a key; without a keyring, they answer 404.
            known_hosts: the names by which browsers may address the service.
            wrong_keys: limits the wrong keys of each address.
            count_wrong_key: called for each wrong key.
            signer: checks the signatures of calls that other replicas have admitted and forwarded.
        """
        self._app = app
        self._keyring = keyring
        self._rate = rate
        self._signer = signer
        self._wrong_keys = wrong_keys
        self._count_wrong_key = count_wrong_key
        self._rule_without_keys = RuleWithoutKeys(known_hosts)
        self._rule: BrowserRule = self._rule_without_keys if keyring is None else RuleWithKeys()
        self._open = ALWAYS_OPEN.union(open_paths)
        self._closed = frozenset(closed_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except CallFailed as error:
            await answer_to(error)(scope, receive, send)
            return
        if self._keyring is None and scope["path"] in self._closed:
            await ErrorResponse(404, "not_found", "Not Found")(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Store what the routes need to know of the caller. Raises ``CallFailed`` to refuse the request."""
        state = scope.setdefault("state", {})
        caller = self._forwarded_caller(scope)
        if caller is not None:
            state[_CALLER], state["passed_on"] = caller, True
            return
        self._rule.check(scope)
        if scope["type"] == "websocket" or scope["path"] not in self._open:
            state[_CALLER] = self._caller(scope)
        elif scope["path"] == READY:
            state[_SEES_REPORT] = self._has_key(scope) or self._is_local(scope)

    def _forwarded_caller(self, scope: Scope) -> Caller | None:
        """Return the caller of a call that another replica has checked; None for other calls."""
        if self._signer is None:
            return None
        try:
            return self._signer.caller(scope["headers"], scope.get("method", "GET"), path_of(scope))
        except Stale:
            raise SessionMoving from None

    def _caller(self, scope: Scope) -> Caller:
        headers = [*scope["headers"], *_key_in_query(scope)]
        if self._keyring is None:
            return without_keys(headers)
        caller = self._find(self._keyring, scope, headers)
        self._rate.count(caller.owner)
        return caller

    def _find(self, keyring: Keyring, scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Return the caller that has the key in the headers, and count a wrong key."""
        try:
            return keyring.find(headers)
        except KeyInvalid:
            self._count_wrong_key()
            self._wrong_keys.count(peer_of(scope))
            raise

    def _has_key(self, scope: Scope) -> bool:
        if self._keyring is None:
            return False
        try:
            self._find(self._keyring, scope, scope["headers"])
        except (KeyMissing, KeyInvalid, TooManyWrongKeys):
            return False
        return True

    def _is_local(self, scope: Scope) -> bool:
        """Return whether a program or page of this machine sent the request, no proxy or foreign page."""
        if not is_from_this_machine(scope):
            return False
        try:
            self._rule_without_keys.check(scope)
        except BrowserRefused:
            return False
        return True


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


def sees_report(scope: Scope) -> bool:
    """Return whether the sender of a request to `/ready` may see the report."""
    return bool(scope["state"].get(_SEES_REPORT))


def key_name(scope: Scope) -> str:
    """Return the name of a request's key, for the log; ``-`` without one."""
    caller: Caller | None = scope.get("state", {}).get(_CALLER)
    return "-" if caller is None else caller.owner
