"""A request that runs code, as clients are told of it."""

import asyncio
import contextlib
from typing import Final

from sessions.models import JsonObject, KernelMessage

_TRAFFIC: Final = 5
"""How many times the limit may come in all, what was cleared or updated since included."""
_SHOWN: Final = frozenset({"execute_result", "display_data", "update_display_data"})


class Running:
    """What the kernel has published for the request so far."""

    def __init__(self, header: JsonObject, limit_bytes: int) -> None:
        self.header = header
        self.limit_bytes = limit_bytes
        self.has_error = False
        """Whether the kernel has published an error."""
        self.is_busy = False
        """Whether the kernel works on it now."""
        self._shown_bytes = 0
        self._said = False
        self._idle = asyncio.Event()

    def lets_pass(self, message: KernelMessage, size_bytes: int) -> bool:
        """Whether clients get it: not the kernel's idle, which comes before all of the text has."""
        if message.kind == "status":
            self.is_busy = message.content.get("execution_state") == "busy"
            if message.content.get("execution_state") == "idle":
                self._idle.set()
                return False
        self.has_error = self.has_error or message.kind == "error"
        if message.kind in _SHOWN:
            self._shown_bytes += size_bytes
            return self._shown_bytes <= _TRAFFIC * self.limit_bytes
        return True

    def says_left_out(self) -> bool:
        """Whether clients have to be told now that something was left out."""
        says = self._shown_bytes > _TRAFFIC * self.limit_bytes and not self._said
        self._said = self._said or says
        return says

    def hears_no_more(self) -> None:
        """The kernel has ended, or has hung up."""
        self._idle.set()

    async def published(self, seconds: float) -> None:
        """Return when the kernel has published all, at the latest after so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
