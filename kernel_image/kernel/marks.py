"""Marks in the text of a cell: the positions at which the kernel has published a message.

Text and messages leave the kernel on different ways, and so do stdout and stderr. Without marks their order
is lost: a heading that was printed before a chart might appear below it. The kernel writes a mark to stdout
and to stderr for each message, and when the program goes on from one of the streams to the other. The
supervisor takes the marks out again (`kernel_image.supervisor.marks`).
"""

import contextlib
import os
import threading
from typing import Any

from kernel_image import contract

_OUTPUT_TYPES = frozenset({"display_data", "execute_result", "update_display_data", "clear_output"})
_NOTEBOOK_TYPES = _OUTPUT_TYPES | {"error", "comm_open", "comm_msg", "comm_close"}


class MarkWriter:
    """Writes the marks of a kernel."""

    def __init__(self, key: str, stdout: int, stderr: int) -> None:
        """Prepare.

        Args:
            key: the kernel's key, from which the marks' token is made.
            stdout: a descriptor of the kernel's stdout that user code does not redirect.
            stderr: the same of its stderr.
        """
        self._begin = contract.MARK_BEGIN + contract.mark_token(key)
        self._descriptors = (stdout, stderr)
        # A signal's handler may print while its thread writes a mark.
        self._lock = threading.RLock()
        self._process_id = os.getpid()
        self._number = 0
        self._types: frozenset[str] = frozenset()
        self._messages_left = self._switches_left = 0
        self._last_stream = 0

    def begin_cell(self, *, in_notebook: bool) -> None:
        """Begin a cell. In a notebook, errors and messages of widgets have a place in the text, too."""
        self._types = _NOTEBOOK_TYPES if in_notebook else _OUTPUT_TYPES
        self._messages_left = self._switches_left = contract.MOST_MARKS

    def stream_is_used(self, number: int) -> None:
        """Write a mark if the program has written to the other stream before. `number` is 1 or 2."""
        if number != self._last_stream:
            if self._last_stream and self._switches_left:
                self._switches_left -= 1
                self._write("")
            self._last_stream = number

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
            if self._messages_left and message["header"]["msg_type"] in self._types:
                self._messages_left -= 1
                self._write(message["msg_id"])
            return send(stream, message, ident=ident, buffers=buffers, track=track)

        session.send = mark_and_send

    def _write(self, message_id: str) -> None:
        # A child that the program has forked publishes nothing.
        if os.getpid() != self._process_id:
            return
        with self._lock:
            self._number += 1
            mark = self._begin + f"{self._number} {message_id}".encode() + contract.MARK_END
            for descriptor in self._descriptors:
                # A single write is not mixed with another one. User code may have closed the pipe.
                with contextlib.suppress(OSError):
                    os.write(descriptor, mark)
