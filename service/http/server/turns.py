"""Turns in which the frames of WebSockets are parsed, and the rate of messages in the whole service.

Frames are parsed in Python, each in 20 to 200 µs, and the smallest frame has six bytes. One chunk of data
would block the event loop for a second if it were parsed at once. So a connection parses a small piece in
each turn, connections take turns in order of arrival, and other work of the event loop runs in between.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from sessions.rate import Rate

_MESSAGES_PER_SEC: Final = 1000
"""Messages of all WebSockets. Further ones wait in the sockets of the clients that send them."""
_BURST_SEC: Final = 0.1

Turn = Callable[[], float]
"""Parses a piece of data and returns the cost of its frames, in messages."""


class Turns:
    """Runs turns one after the other, at the rate that the event loop can bear."""

    def __init__(self) -> None:
        self._rate = Rate(_BURST_SEC)
        self._waiting: deque[Turn] = deque()
        self._is_running = False
        self._free_at = 0.0
        """When the next turn may run, by the clock of the event loop."""
        self._timer: asyncio.TimerHandle | None = None

    def run(self, turn: Turn) -> None:
        """Run a turn: at once if no other turn waits and the rate allows it, else later."""
        self._waiting.append(turn)
        if self._is_running or self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._free_at:
            self._run_next()
        else:
            self._timer = loop.call_at(self._free_at, self._run_next)

    def _run_next(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        self._is_running = True
        cost = 0.0
        try:
            cost = self._waiting.popleft()()
        finally:
            self._is_running = False
            self._free_at = loop.time() + self._rate.take(cost / _MESSAGES_PER_SEC)
            if self._waiting:
                self._timer = loop.call_at(self._free_at, self._run_next)
