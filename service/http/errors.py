"""Errors of `service.http`."""

from starlette.exceptions import HTTPException

from sessions.errors import CallFailed


class RangeNotSatisfiable(CallFailed):
    """A ``Range`` begins behind the end of a file of ``size_bytes`` bytes."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The range is outside the file, which has {size_bytes} bytes")
        self.size_bytes = size_bytes


class ForeignOrigin(CallFailed):
    """A browser asks for a page of another server, which must not use a kernel."""

    def __init__(self) -> None:
        super().__init__("Pages of other servers may not use kernels: the Origin is not this service's")


class OriginRefused(CallFailed):
    """A web page of another machine asks for what is for local programs."""

    def __init__(self) -> None:
        super().__init__("Pages of other sites can't use this service")


class RequestTooLarge(HTTPException):
    """The body of a request has more than ``limit_bytes`` bytes.

    It is an HTTPException because FastAPI turns any other error that comes up while it reads a
    body into its own 400.
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(413, f"Request body exceeds maximum of {limit_bytes} bytes")
        self.limit_bytes = limit_bytes
