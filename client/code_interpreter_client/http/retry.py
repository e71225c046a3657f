"""When a request is sent again, and how long to wait before that."""

import email.utils
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Retry:
    """How many times a request is sent at most, and how many seconds to wait in between.

    A `Retry-After` of the service is waited for in full or not at all: if it is longer than what is left
    of `patience_sec`, the error is raised at once and contains it. Without one, the pauses grow from
    `first_sec` to `longest_sec`, with a random part so that many callers do not retry at the same time.
    `Retry(attempts=1)` never retries.
    """

    attempts: int = 4
    patience_sec: float = 60.0
    first_sec: float = 0.25
    longest_sec: float = 8.0

    def pause(self, attempt: int, waited_sec: float, requested_sec: float | None) -> float | None:
        """Return the seconds to wait after attempt number `attempt`, or None if it was the last.

        Args:
            attempt: the number of requests that were sent.
            waited_sec: the sum of all pauses so far.
            requested_sec: the service's `Retry-After`.
        """
        if attempt >= self.attempts:
            return None
        seconds = requested_sec
        if seconds is None:
            seconds = min(self.longest_sec, self.first_sec * 2 ** (attempt - 1)) * random.uniform(0.5, 1)
        return seconds if waited_sec + seconds <= self.patience_sec else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, or None if it is missing or not valid.

    The header may also contain a date.
    """
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
