"""The service's health."""

from code_interpreter_client.http.exchange import Flow, Request, answer
from code_interpreter_client.models.health import Health


def health() -> Flow[Health]:
    """Return whether the service works, and its version."""
    return (yield from answer(Health, Request("GET", "health", repeatable=True)))
