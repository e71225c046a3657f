"""Errors of `service.http`."""

from typing import Final

from starlette.exceptions import HTTPException

from sessions.errors import CallFailed

_SHOWN: Final = 100
"""Most characters of a header's value in an error."""


class RangeNotSatisfiable(CallFailed):
    """A ``Range`` header has no byte of the file, which has ``size_bytes`` bytes."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The range is outside the file, which has {size_bytes} bytes")
        self.size_bytes = size_bytes


class BrowserRefused(CallFailed):
    """A browser sent the request, and the page that it shows may not use this service."""


class HostNotAllowed(BrowserRefused):
    """A browser sent the request to a name that a foreign page could have. ``host``: the header, or empty."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"Browsers may not use this service by the name {host[:_SHOWN]!r}. "
            "If the name is the service's own, add it to ALLOWED_HOSTS, or set API_KEYS"
        )
        self.host = host


class ForeignOrigin(BrowserRefused):
    """A browser sent the request for a web page of another server."""

    def __init__(self) -> None:
        super().__init__(
            "Web pages of other servers may not use this service: the request came from such a page"
        )


class OriginRefused(BrowserRefused):
    """A browser sent the request for a web page of another machine, which must not use MCP."""

    def __init__(self) -> None:
        super().__init__(
            "Web pages of other machines may not use MCP: the Origin header names another machine"
        )


class RequestTooLarge(HTTPException):
    """The body of a request has more than ``limit`` bytes, or other units.

    The class is an HTTPException, because FastAPI turns any other error during the reading of a body into a
    400 of its own.
    """

    def __init__(self, limit: int, unit: str = "bytes") -> None:
        super().__init__(413, f"Request body exceeds maximum of {limit} {unit}")


class TooManyLargeRequests(HTTPException):
    """The requests of one key that are being served would have more than ``limit_bytes`` bytes together."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            429,
            f"Other large requests are being served: together they may have {limit_bytes} bytes. Try again",
        )
