"""Errors of the gateway, and the HTTP answers to them."""

from typing import Final

from service.http import answers
from service.http.answers import Answer, Answers
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


ANSWERS: Final[Answers] = {
    **answers.ANSWERS,
    KernelSpecNotFound: Answer(404, "kernelspec_not_found"),
    TooManyConnections: Answer(429, "too_many_connections", headers=lambda _: {"Retry-After": "10"}),
}
"""Answers to all errors that a call of the gateway may raise."""
