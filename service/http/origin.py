"""Which web pages may send requests to this service.

A browser lets every page send requests to every address, with the browser's keys. The header ``Origin``
names the server of the page; other programs send no such header. In a DNS rebinding attack, the name of the
page's server resolves to this machine. The header still has that name, so the request is refused.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from service.http.errors import ForeignOrigin, OriginRefused
from sessions.errors import CallFailed

_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class OriginPolicy:
    """A rule for the origins that may use certain paths."""

    _allows: Callable[[str, frozenset[str]], bool]
    """Function of an origin and the request's ``Host`` headers, both in lower case."""
    _refusal: Callable[[], CallFailed]

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise this policy's error if a request comes from a page that may not send it."""
        hosts, origins = set[str](), set[str]()
        for name, value in headers:
            if name == b"host":
                hosts.add(value.decode("latin-1").lower())
            elif name == b"origin":
                origins.add(value.decode("latin-1").lower())
        if not all(self._allows(origin, frozenset(hosts)) for origin in origins):
            raise self._refusal()


def _is_of_this_service(origin: str, hosts: frozenset[str]) -> bool:
    return origin.partition("://")[2] in hosts


def _is_of_this_machine(origin: str, _: frozenset[str]) -> bool:
    try:
        return urlsplit(origin).hostname in _LOCAL
    except ValueError:
        return False


SAME_SERVICE: Final = OriginPolicy(_is_of_this_service, ForeignOrigin)
"""For kernels: only pages of this service. The origin of the page must equal the host of the request."""
LOCAL_PAGES: Final = OriginPolicy(_is_of_this_machine, OriginRefused)
"""For MCP: pages from this machine, on any port."""
