"""Errors of `service.gateway`."""

from sessions.errors import CallFailed


class TooManyConnections(CallFailed):
    """A session has ``limit`` open WebSockets, and another one was requested."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"This kernel has {limit} open WebSockets, which is the limit; close one and try again"
        )
        self.limit = limit


class KernelSpecNotFound(CallFailed):
    """A client names a kernelspec that does not exist."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no kernelspec '{name}'")
        self.name = name
