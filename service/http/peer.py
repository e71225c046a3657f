"""The other end of a connection. uvicorn replaces it by what a trusted proxy's header says."""

import ipaddress
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

_PEER: Final = "peer"
_FORWARDING: Final = frozenset(
    {b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip"}
    | {b"cf-connecting-ip", b"fastly-client-ip", b"x-original-host"}
)


class PeerAddress:
    """ASGI middleware, outside uvicorn's own for proxies: stores the address for `peer_of`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope.setdefault("state", {})[_PEER] = (scope.get("client") or ("",))[0]
        await self._app(scope, receive, send)


def peer_of(scope: Scope) -> str:
    """Return the IP address of the other end of the connection; an empty text if it has none."""
    address: str = scope.get("state", {}).get(_PEER, "")
    return address


def is_from_this_machine(scope: Scope) -> bool:
    """Return whether the connection is from loopback, and no header shows that a proxy forwards it."""
    try:
        address = ipaddress.ip_address(peer_of(scope))
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return address.is_loopback and not any(
        name in _FORWARDING or name.startswith(b"x-forwarded") for name, _ in scope["headers"]
    )
