"""The arithmetic of a rate with bursts, for limits that wait and for limits that refuse."""

import time


class Rate:
    """Counts what one user of a limit has taken, in seconds of the allowed rate.

    Something that may happen 500 times a second costs 1/500 s. The cost is paid back as time passes.
    """

    __slots__ = ("_burst_sec", "_paid_until")

    def __init__(self, burst_sec: float) -> None:
        """``burst_sec``: seconds of the allowed rate that may be taken at once."""
        self._burst_sec = burst_sec
        self._paid_until = 0.0

    def take(self, cost_sec: float) -> float:
        """Count the cost. Return the seconds to wait before the next one; 0 within the burst."""
        self._paid_until, wait_sec = self._after(cost_sec)
        return wait_sec

    def try_take(self, cost_sec: float) -> float:
        """Count the cost if it is within the burst. Return 0, or else the seconds until it will be."""
        paid_until, wait_sec = self._after(cost_sec)
        if not wait_sec:
            self._paid_until = paid_until
        return wait_sec

    def _after(self, cost_sec: float) -> tuple[float, float]:
        now = time.monotonic()
        paid_until = max(now, self._paid_until) + cost_sec
        return paid_until, max(0.0, paid_until - (now + self._burst_sec))
