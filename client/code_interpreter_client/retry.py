"""When to try again, and how long to wait before that."""

import email.utils
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Retry:
    """How often a request is sent at most, and for how long one waits in between, in seconds.

    The service's `Retry-After` is waited for in full, or not at all: where it is longer than what is left
    of `patience_sec`, the error is raised at once and says how long. Without one the pauses grow from
    `first_sec` to `longest_sec`, with a random share so that many callers do not come back together.
    `Retry(attempts=1)` never tries again.
    """

    attempts: int = 4
    patience_sec: float = 60.0
    first_sec: float = 0.25
    longest_sec: float = 8.0

    def pause(self, attempt: int, waited_sec: float, asked_sec: float | None) -> float | None:
        """Seconds until the next attempt after this many; None: there is none."""
        if attempt >= self.attempts:
            return None
        seconds = asked_sec
        if seconds is None:
            seconds = min(self.longest_sec, self.first_sec * 2 ** (attempt - 1)) * random.uniform(0.5, 1)
        return seconds if waited_sec + seconds <= self.patience_sec else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds a `Retry-After` header asks for, also by a date; None if it makes no sense."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
