"""The service's health."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Health:
    """Whether the service works: `status` is `ok` or `error`, and `message` explains an error."""

    status: str
    version: str = ""
    message: str | None = None
