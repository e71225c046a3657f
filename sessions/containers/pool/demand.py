"""How many sandboxes to keep ready: as many as are likely to be asked for while one is launched."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final

_WINDOW_SEC: Final = 10.0
_MAX_ARRIVALS: Final = 10_000
_WEIGHT_OF_LAST: Final = 0.3


class Demand:
    """Recent arrivals of callers, and how long launches take. `clock` gives seconds; tests pass their own."""

    def __init__(self, least: int, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._least = least
        self._most = most
        self._clock = clock
        self._arrivals: deque[float] = deque(maxlen=_MAX_ARRIVALS)
        self._launch_sec = 1.0

    def arrived(self) -> None:
        """Count a caller that asks for a sandbox."""
        self._arrivals.append(self._clock())
        self._forget()

    def launched(self, seconds: float) -> None:
        """Take the duration of a launch into the average."""
        self._launch_sec += _WEIGHT_OF_LAST * (seconds - self._launch_sec)

    def _forget(self) -> None:
        while self._arrivals and self._arrivals[0] < self._clock() - _WINDOW_SEC:
            self._arrivals.popleft()

    @property
    def target(self) -> int:
        """Number of sandboxes to keep ready now."""
        self._forget()
        wanted = math.ceil(len(self._arrivals) / _WINDOW_SEC * self._launch_sec)
        return max(self._least, min(self._most, wanted))
