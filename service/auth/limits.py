"""What one key may use: requests a minute, executions at once, stored bytes. A limit of 0 is none."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from service.auth.errors import TooManyRequests
from sessions.errors import TooManyExecutions

_MINUTE: Final = 60.0


class RequestRate:
    """So many requests at once, and then as many a minute, evenly."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._whole_at: dict[str, float] = {}
        """When an owner that is quiet until then may ask as often as ever."""

    def count(self, owner: str) -> None:
        """Count a request. Raises ``TooManyRequests``, and then it does not count."""
        if not self._per_minute:
            return
        now = time.monotonic()
        whole_at = max(now, self._whole_at.get(owner, 0.0)) + _MINUTE / self._per_minute
        if whole_at > now + _MINUTE:
            raise TooManyRequests(self._per_minute, whole_at - now - _MINUTE)
        self._whole_at[owner] = whole_at


class ConcurrencyLimit:
    """How many executions of each owner run, or wait for a kernel or their turn."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: Counter[str] = Counter()

    @contextmanager
    def one_of(self, owner: str, *, runs_already: bool = False) -> Iterator[None]:
        """Count one for as long as the block. Raises ``TooManyExecutions``, unless it runs already."""
        if self._limit and not runs_already and self._running[owner] >= self._limit:
            raise TooManyExecutions(self._limit)
        self._running[owner] += 1
        try:
            yield
        finally:
            self._running[owner] -= 1
