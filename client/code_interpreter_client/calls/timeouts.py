"""Timeouts, which are seconds for callers of the client and milliseconds for the service."""

import math
from collections.abc import Mapping
from typing import Any


def as_field(seconds: float | None) -> dict[str, int]:
    """Return the request's field for a timeout; nothing for None, so that the service's default applies.

    Raises:
        ValueError: it is not a positive number.
    """
    if seconds is None:
        return {}
    if not 0 < seconds < math.inf:
        raise ValueError(f"A timeout must be a positive number of seconds, not {seconds!r}")
    return {"timeout_ms": max(1, round(seconds * 1000))}


def seconds_of(body: Mapping[str, Any], default: float) -> float:
    """Return the timeout that a request contains, in seconds, or `default`."""
    return float(body["timeout_ms"]) / 1000 if "timeout_ms" in body else default
