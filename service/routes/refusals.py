"""What the OpenAPI document says of answers that are errors."""

from typing import Any

from service.schemas import ErrorBody
from service.session_schemas import SessionEndedBody

_ALWAYS = (422, 503, 507)
"""The request makes no sense; the registry or the engine does not answer; the disk is full."""


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these, and with what every route may answer."""
    bodies: dict[int, Any] = {410: SessionEndedBody}
    return {status: {"model": bodies.get(status, ErrorBody)} for status in (*statuses, *_ALWAYS)}
