"""A limit on the rate at which a kernel's messages are read."""

import asyncio
import time
from typing import Final

_MESSAGES_PER_SEC: Final = 500
_BYTES_PER_SEC: Final = 1 << 25
_BURST_SEC: Final = 4.0
"""A burst may take as much as this time allows at the two rates."""


class Pace:
    """Limits messages and bytes per second, with bursts. A flood then waits in the memory of the kernel."""

    def __init__(self) -> None:
        self._paid_until = 0.0

    async def take(self, size_bytes: int) -> None:
        """Count a message of this size, and return when the next one may be read."""
        now = time.monotonic()
        cost_sec = 1 / _MESSAGES_PER_SEC + size_bytes / _BYTES_PER_SEC
        self._paid_until = max(now, self._paid_until) + cost_sec
        await asyncio.sleep(max(0.0, self._paid_until - now - _BURST_SEC))
