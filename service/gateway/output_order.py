"""The order of printed text and published messages, which reach the service on separate connections.

The kernel writes a mark into its text wherever it publishes a message: see `kernel_image.kernel.marks`. The
reader of the text and the reader of the messages wait for each other at these marks.
"""

import asyncio
from typing import Final

_WAIT_SEC: Final = 1.0
_MAX_TIMEOUTS: Final = 3
"""After so many timeouts in one request, the marks are taken to be broken and nothing waits for them."""
_MAX_REMEMBERED_IDS: Final = 2000
_MAX_DIGITS: Final = 16
MARKED_KINDS: Final = frozenset(
    {"display_data", "execute_result", "update_display_data", "clear_output", "error"}
    | {"comm_open", "comm_msg", "comm_close"}
)
"""Types of the messages for which the kernel writes a mark."""


class OutputOrder:
    """A meeting point for the two readers.

    For each message, the reader of messages calls `wait_for_text_before`, publishes the message and calls
    `message_published`. At each mark, the reader of text calls `wait_for_message`.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._marks_read: dict[str, None] = {}
        """Ids of messages whose mark was read before the message was published, oldest first."""
        self._published: dict[str, None] = {}
        """Ids of messages that were published before their mark was read, oldest first."""
        self._text_waits_for = ""
        """Id of the message that the reader of text waits for; empty if it does not wait."""
        self._waiting_message = ""
        """Id of the message that waits for its mark; empty if none does."""
        self._mark_timeouts = self._message_timeouts = 0

    def start_request(self) -> None:
        """Reset the timeouts, which are counted for each request."""
        self._mark_timeouts = self._message_timeouts = 0

    async def wait_for_text_before(self, message_id: str) -> None:
        """Wait until the text before the mark of that message is published, at most `_WAIT_SEC` seconds."""
        if self._mark_timeouts >= _MAX_TIMEOUTS:
            return
        self._waiting_message = message_id
        self._notify()
        try:
            async with asyncio.timeout(_WAIT_SEC):
                # If the text already waits for a later message, all text before this one is published.
                while message_id not in self._marks_read and _number(self._text_waits_for) <= _number(
                    message_id
                ):
                    await self._changed.wait()
        except TimeoutError:
            self._mark_timeouts += 1
        finally:
            self._waiting_message = ""

    def message_published(self, message_id: str) -> None:
        """Record that the message is published, so that the text after its mark may follow."""
        if message_id in self._marks_read and self._text_waits_for != message_id:
            del self._marks_read[message_id]
        else:
            self._remember(message_id, self._published)

    async def wait_for_message(self, message_id: str) -> None:
        """Wait until the message whose mark was read is published, at most `_WAIT_SEC` seconds."""
        self._remember(message_id, self._marks_read)
        if self._message_timeouts < _MAX_TIMEOUTS:
            self._text_waits_for = message_id
            try:
                async with asyncio.timeout(_WAIT_SEC):
                    # Two threads may write their marks in one order and publish in the other. If a later
                    # message already waits for its mark, waiting for this one would block both readers.
                    while message_id not in self._published and _number(self._waiting_message) <= _number(
                        message_id
                    ):
                        await self._changed.wait()
            except TimeoutError:
                self._message_timeouts += 1
            finally:
                self._text_waits_for = ""
        if message_id in self._published:
            del self._published[message_id]
            self._marks_read.pop(message_id, None)

    def _remember(self, message_id: str, ids: dict[str, None]) -> None:
        ids[message_id] = None
        while len(ids) > _MAX_REMEMBERED_IDS:
            del ids[next(iter(ids))]
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _number(message_id: str) -> int:
    """Return the counter at the end of an id made by `jupyter_client`; -1 for any other id."""
    number = message_id.rpartition("_")[2]
    return int(number) if number.isascii() and number.isdecimal() and len(number) < _MAX_DIGITS else -1
