"""Static files of the service's web pages, ready to be sent: with their headers, compressed if possible."""

import gzip
import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service.http.downloads import matches

MEDIA_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""Media types of the files that are served, by the ends of their names."""

HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-DNS-Prefetch-Control": "off",
}


class Asset:
    """A file of a page.

    Attributes:
        content: the bytes of the file.
        headers: the headers of each response.
    """

    def __init__(self, content: bytes, suffix: str, policy: str) -> None:
        """Make the headers. `suffix` is a key of `MEDIA_TYPES`, `policy` a Content-Security-Policy."""
        self.content = content
        self.headers = {
            **HEADERS,
            "Content-Type": f"{MEDIA_TYPES[suffix]}; charset=utf-8",
            "Content-Security-Policy": policy,
            "ETag": f'W/"{hashlib.sha256(content).hexdigest()[:32]}"',
            "Vary": "Accept-Encoding",
        }

    @cached_property
    def gzipped(self) -> bytes:
        """The compressed content."""
        return gzip.compress(self.content, mtime=0)

    def respond(self, request: Request) -> Response:
        """Return the file, compressed if the client accepts gzip, or 304 if the client has this version."""
        if matches(request.headers.get("if-none-match"), self.headers["ETag"].removeprefix("W/")):
            return Response(status_code=304, headers=self.headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self.gzipped, headers={**self.headers, "Content-Encoding": "gzip"})
        return Response(self.content, headers=self.headers)


def endpoint(asset: Asset) -> Callable[[Request], Response]:
    """Return the route's function. It runs in a thread, because the first call may compress the file."""

    def respond(request: Request) -> Response:
        return asset.respond(request)

    return respond
