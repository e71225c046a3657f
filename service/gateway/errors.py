"""Errors of `service.gateway`."""

from sessions.errors import CallFailed


class TooManyConnections(CallFailed):
    """``limit`` sockets are open to a session."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} sockets are open to this kernel; close one")
        self.limit = limit


class KernelSpecNotFound(CallFailed):
    """A notebook asks for a kernel of a name that there is not."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no kernelspec '{name}'")
        self.name = name
