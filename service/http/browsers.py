"""Which requests of browsers are served. Requests of other programs are never refused here.

A browser lets every page send requests to every address, also to this machine, and with the browser's keys.
The header ``Origin`` names the server of the page. In a DNS rebinding attack, the name of the page's server
resolves to this machine: then ``Origin`` and ``Host`` agree, and only the name in them is not ours.

A service with keys relies on them, and checks the Origin where a page could otherwise use a key that the
browser adds. A service without keys checks both headers on every path.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol, Self
from urllib.parse import urlsplit

from starlette.types import Scope

from service.http.errors import ForeignOrigin, HostNotAllowed, OriginRefused

_JUPYTER: Final = "/api/"
_MCP: Final = "/mcp"
_THIS_MACHINE: Final = ("localhost", "127.0.0.1", "::1")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_SIGNS: Final = frozenset({b"origin", b"referer", b"accept-language"})
"""Headers that browsers send and other programs do not; besides those that begin with `sec-fetch-`."""
_BROWSER: Final = b"mozilla/"
_READING: Final = ("GET", "HEAD", "OPTIONS")
_OTHER_PAGES: Final = frozenset({"cross-site", "same-site"})
"""Values of `Sec-Fetch-Site` for requests of pages of other servers. A site includes all ports of a name."""

_HOST: Final = re.compile(r"(\[[^\[\]]+\]|[a-z0-9_.-]+)(:[0-9]*)?")
_CLUSTER: Final = (".localhost", ".svc", ".cluster.local")


class KnownHosts:
    """The names by which browsers may address a service without keys. No foreign page has one of them."""

    def __init__(self, allowed: Iterable[str], machine: str) -> None:
        """Make the set of names.

        Args:
            allowed: values of ``ALLOWED_HOSTS``: names, and ``*.name`` for all names below a name.
            machine: name of this machine.
        """
        names = {name.lower().removesuffix(".") for name in (machine, *allowed)}
        self._names = frozenset(name for name in names if not name.startswith("*"))
        self._endings = (*_CLUSTER, *(name[1:] for name in names if name.startswith("*")))

    def __contains__(self, host: str) -> bool:
        """Return whether the value of a ``Host`` header, in lower case, has a known name, with any port."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1]
        if name.startswith("["):
            return _is_address(ipaddress.IPv6Address, name[1:-1])
        # A final dot makes a name absolute: `com.` is a domain of the Internet.
        if "." not in name or _is_address(ipaddress.IPv4Address, name):
            return True
        name = name.removesuffix(".")
        return name == "localhost" or name in self._names or name.endswith(self._endings)


@dataclass(frozen=True)
class _Headers:
    """The headers of a request that matter here, in lower case."""

    hosts: frozenset[str]
    origins: frozenset[str]
    referers: frozenset[str]
    sites: frozenset[str]
    modes: frozenset[str]
    is_browser: bool

    @classmethod
    def of(cls, scope: Scope) -> Self:
        found: dict[bytes, set[str]] = {}
        is_browser = False
        for name, value in scope["headers"]:
            if name in _SIGNS or name.startswith(b"sec-fetch-"):
                is_browser = True
            elif name == b"user-agent":
                is_browser = is_browser or _BROWSER in value.lower()
            elif name != b"host":
                continue
            found.setdefault(name, set()).add(value.decode("latin-1").strip().lower())
        return cls(
            hosts=frozenset(found.get(b"host", ())),
            origins=frozenset(found.get(b"origin", ())),
            referers=frozenset(found.get(b"referer", ())),
            sites=frozenset(found.get(b"sec-fetch-site", ())),
            modes=frozenset(found.get(b"sec-fetch-mode", ())),
            is_browser=is_browser,
        )

    def has_foreign_origin(self) -> bool:
        """Return whether an Origin is not the requested host. Two different hosts match no Origin."""
        return not all(_is_at(origin, host) for origin in self.origins for host in self.hosts or ("",))

    def has_distant_origin(self) -> bool:
        """Return whether an Origin is a page of another machine."""
        return not all(map(_is_of_this_machine, self.origins))


class BrowserRule(Protocol):
    """Decides which requests of browsers are served."""

    def check(self, scope: Scope) -> None:
        """Raise ``BrowserRefused`` if the request is not served."""


class RuleWithKeys:
    """Only pages of this service may use kernels, and only pages of this machine may use MCP."""

    def check(self, scope: Scope) -> None:
        """See `BrowserRule`."""
        if scope["type"] == "websocket" or scope["path"].startswith(_JUPYTER):
            if _Headers.of(scope).has_foreign_origin():
                raise ForeignOrigin
        elif scope["path"] == _MCP and _Headers.of(scope).has_distant_origin():
            raise OriginRefused


class RuleWithoutKeys:
    """A browser must use a known name, and its pages must be pages of this service."""

    def __init__(self, known: KnownHosts) -> None:
        self._known = known

    def check(self, scope: Scope) -> None:
        """See `BrowserRule`."""
        headers = _Headers.of(scope)
        if not headers.is_browser:
            return
        unknown = sorted(host for host in headers.hosts if host not in self._known)
        if unknown or not headers.hosts:
            raise HostNotAllowed("".join(unknown[:1]))
        if scope["path"] == _MCP and scope["type"] == "http":
            if headers.has_foreign_origin() and headers.has_distant_origin():
                raise OriginRefused
        elif headers.has_foreign_origin():
            raise ForeignOrigin
        if not headers.origins and _is_sent_by_another_page(headers, scope.get("method", "")):
            raise ForeignOrigin


def _is_sent_by_another_page(headers: _Headers, method: str) -> bool:
    """Return whether another server's page sent a request without Origin. It may only link to this service.

    A page embeds images and scripts of other servers without an Origin. Old browsers send none with a form.
    """
    reads = method in _READING
    if headers.sites & _OTHER_PAGES:
        return not (reads and headers.modes == {"navigate"})
    if reads or headers.sites:
        return False
    return any(not _is_at(_origin_of(url), host) for url in headers.referers for host in headers.hosts)


def _is_at(origin: str, host: str) -> bool:
    """Return whether an origin has a host. The scheme may differ, because a proxy may end TLS."""
    scheme, _, authority = origin.partition("://")
    port = _DEFAULT_PORTS.get(scheme, "")
    return bool(authority) and authority.removesuffix(port) == host.removesuffix(port)


def _origin_of(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split('[/?#]', rest, maxsplit=1)[0]}"


def _is_of_this_machine(origin: str) -> bool:
    try:
        return urlsplit(origin).hostname in _THIS_MACHINE
    except ValueError:
        return False


def _is_address(kind: Callable[[str], object], name: str) -> bool:
    try:
        kind(name)
    except ValueError:
        return False
    return True
