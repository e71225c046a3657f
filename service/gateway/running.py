"""A request that runs code, as clients are told of it."""

import asyncio
import contextlib
from typing import Final

from sessions.models import JsonObject, KernelMessage

_TRAFFIC: Final = 5
"""How many times the limit may come in all, what was cleared or updated since included."""
_PATIENCE_SEC: Final = 0.25
_MOST_MISSED: Final = 3
"""Messages in vain waited for, after which it is plain that there are no marks, and the other way round."""
MARKED: Final = frozenset(
    {"display_data", "execute_result", "update_display_data", "clear_output", "error"}
    | {"comm_open", "comm_msg", "comm_close"}
)
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
        self._changed = asyncio.Event()
        self._marked: set[str] = set()
        self._told: set[str] = set()
        self._missed = self._lost = 0

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

    # --- the order of text and messages -----------------------------------------------------------

    async def text_before(self, message_id: str) -> None:
        """Return when clients have all text from before that message, or it has no mark."""
        if self._missed < _MOST_MISSED and not await self._comes(message_id, self._marked):
            self._missed += 1

    def told(self, message_id: str) -> None:
        """Clients have that message."""
        if message_id in self._marked:
            self._note(message_id, self._told)

    async def mark(self, message_id: str) -> None:
        """Clients have all text up to the mark of that message: return when they have the message, too."""
        self._note(message_id, self._marked)
        if self._lost < _MOST_MISSED and not await self._comes(message_id, self._told):
            self._lost += 1
        self._marked.discard(message_id)
        self._told.discard(message_id)

    def _note(self, message_id: str, where: set[str]) -> None:
        where.add(message_id)
        self._changed.set()
        self._changed = asyncio.Event()

    async def _comes(self, message_id: str, where: set[str]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SEC):
                while message_id not in where:
                    await self._changed.wait()
        return message_id in where

    def hears_no_more(self) -> None:
        """The kernel has ended, or has hung up."""
        self._idle.set()

    async def published(self, seconds: float) -> None:
        """Return when the kernel has published all, at the latest after so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
