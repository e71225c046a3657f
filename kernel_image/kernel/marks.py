"""Marks in the text of a notebook's cell: the positions at which the kernel has published a message.

Text and messages leave the kernel on different channels. Without marks their order is lost: a heading
that was printed before a chart might appear below it, or an output widget might capture other text.
The kernel writes a mark to stdout for each message, and the service takes the marks out again.
"""

import contextlib
import os
from typing import Any

from kernel_image import contract

_MARKED_TYPES = frozenset(
    {"display_data", "execute_result", "update_display_data", "clear_output", "error"}
    | {"comm_open", "comm_msg", "comm_close"}
)
_MARK_LIMIT = 20_000
"""Most marks in one cell."""


class MarkWriter:
    """Writes the marks of a kernel."""

    def __init__(self, key: str, stdout: int) -> None:
        """Prepare.

        Args:
            key: the kernel's key, from which the marks' token is made.
            stdout: a descriptor of the kernel's stdout that user code does not redirect.
        """
        self._begin = contract.MARK_BEGIN + contract.mark_token(key)
        self._stdout = stdout
        self._left = 0

    def begin_cell(self, *, enabled: bool) -> None:
        """Begin a cell, with or without marks until the next one begins."""
        self._left = _MARK_LIMIT if enabled else 0

    def mark_messages_of(self, session: Any) -> None:
        """Mark each message that the kernel's `jupyter_client` session publishes."""
        send = session.send

        def mark_and_send(
            stream: Any,
            message: Any,
            content: Any = None,
            parent: Any = None,
            ident: Any = None,
            buffers: Any = None,
            track: bool = False,
            header: Any = None,
            metadata: Any = None,
        ) -> Any:
            if not isinstance(message, dict):
                message = session.msg(message, content, parent=parent, header=header, metadata=metadata)
            if self._left and message["header"]["msg_type"] in _MARKED_TYPES:
                self._left -= 1
                # A single write is not mixed with another one. User code may have closed the pipe.
                with contextlib.suppress(OSError):
                    os.write(self._stdout, self._begin + message["msg_id"].encode() + contract.MARK_END)
            return send(stream, message, ident=ident, buffers=buffers, track=track)

        session.send = mark_and_send
