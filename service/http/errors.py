"""Errors of `service.http`."""

from starlette.exceptions import HTTPException

from sessions.errors import CallFailed


class RangeNotSatisfiable(CallFailed):
    """A ``Range`` header has no byte of the file, which has ``size_bytes`` bytes."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The range is outside the file, which has {size_bytes} bytes")
        self.size_bytes = size_bytes


class ForeignOrigin(CallFailed):
    """A browser sent the request for a web page of another server, which must not use kernels."""

    def __init__(self) -> None:
        super().__init__(
            "Web pages of other servers may not use kernels: the Origin header names another server"
        )


class OriginRefused(CallFailed):
    """A browser sent the request for a web page of another machine, which must not use MCP."""

    def __init__(self) -> None:
        super().__init__(
            "Web pages of other machines may not use MCP: the Origin header names another machine"
        )


class RequestTooLarge(HTTPException):
    """The body of a request has more than ``limit_bytes`` bytes.

    The class is an HTTPException, because FastAPI turns any other error during the reading of a body into a
    400 of its own.
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(413, f"Request body exceeds maximum of {limit_bytes} bytes")
        self.limit_bytes = limit_bytes
