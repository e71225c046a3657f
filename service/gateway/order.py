"""The order of what code prints and what its kernel publishes, which come on different ways.

See `kernel_image.kernel.marks`.
"""

import asyncio
from typing import Final

_PATIENCE_SEC: Final = 1.0
_MOST_MISSED: Final = 3
"""What is waited for in vain in one request, after which it is plain that it does not come."""
_REMEMBERED: Final = 2000
_DIGITS: Final = 16
MARKED: Final = frozenset(
    {"display_data", "execute_result", "update_display_data", "clear_output", "error"}
    | {"comm_open", "comm_msg", "comm_close"}
)
"""Messages that have a mark."""


class Order:
    """Who tells messages asks `text_before` and says `told`; who tells text says `mark` at each mark."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._marked: dict[str, None] = {}
        self._told: dict[str, None] = {}
        self._awaited = ""
        """The message that the text waits for."""
        self._coming = ""
        """The message that waits for its text."""
        self._missed = self._lost = 0

    def begin(self) -> None:
        """A request begins."""
        self._missed = self._lost = 0

    async def text_before(self, message_id: str) -> None:
        """Return when clients have all text from before that message, or it has no mark."""
        if self._missed >= _MOST_MISSED:
            return
        self._coming = message_id
        self._wake()
        try:
            async with asyncio.timeout(_PATIENCE_SEC):
                # What the text waits for was made later, so all that this one follows has been told.
                while message_id not in self._marked and _number(self._awaited) <= _number(message_id):
                    await self._changed.wait()
        except TimeoutError:
            self._missed += 1
        finally:
            self._coming = ""

    def told(self, message_id: str) -> None:
        """Clients have that message."""
        if message_id in self._marked and self._awaited != message_id:
            del self._marked[message_id]
        else:
            self._note(message_id, self._told)

    async def mark(self, message_id: str) -> None:
        """Clients have all text up to the mark of that message: return when they have the message, too."""
        self._note(message_id, self._marked)
        if self._lost < _MOST_MISSED:
            self._awaited = message_id
            try:
                async with asyncio.timeout(_PATIENCE_SEC):
                    # Of two threads the first to write its mark may be the last to publish.
                    while message_id not in self._told and _number(self._coming) <= _number(message_id):
                        await self._changed.wait()
            except TimeoutError:
                self._lost += 1
            finally:
                self._awaited = ""
        if message_id in self._told:
            del self._told[message_id]
            self._marked.pop(message_id, None)

    def _note(self, message_id: str, where: dict[str, None]) -> None:
        where[message_id] = None
        while len(where) > _REMEMBERED:
            del where[next(iter(where))]
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _number(message_id: str) -> int:
    """A kernel counts its messages as it makes them, and says so at the end of their ids; -1 for others."""
    number = message_id.rpartition("_")[2]
    return int(number) if number.isascii() and number.isdecimal() and len(number) < _DIGITS else -1
