"""A limit on the rate at which a kernel's messages are read."""

import asyncio
from typing import Final

from sessions.rate import Rate

_MESSAGES_PER_SEC: Final = 500
_BYTES_PER_SEC: Final = 1 << 25
_BURST_SEC: Final = 4.0
"""A burst may take as much as this time allows at the two rates."""


class Pace:
    """Limits messages and bytes per second, with bursts. A flood then waits in the memory of the kernel."""

    def __init__(self) -> None:
        self._rate = Rate(_BURST_SEC)

    async def take(self, size_bytes: int) -> None:
        """Count a message of this size, and return when the next one may be read."""
        await asyncio.sleep(self._rate.take(1 / _MESSAGES_PER_SEC + size_bytes / _BYTES_PER_SEC))
