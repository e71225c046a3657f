"""Where in its text a notebook's cell has published something: a mark in stdout, which the service takes out.

Text and messages leave on different ways. Without marks it is a matter of luck whether a heading that was
printed before a chart is shown above it, and which text an output widget has caught.
"""

import contextlib
import os
from typing import Any

from kernel_image import contract

_MARKED = frozenset(
    {"display_data", "execute_result", "update_display_data", "clear_output", "error"}
    | {"comm_open", "comm_msg", "comm_close"}
)
_MOST = 20_000


class Marks:
    """Written to `stdout`, a descriptor that the program knows nothing of, while `on`."""

    def __init__(self, key: str, stdout: int) -> None:
        self._begin = contract.MARK_BEGIN + contract.mark_token(key)
        self._stdout = stdout
        self._left = 0

    def begin(self, *, on: bool) -> None:
        """A cell begins; what is said holds until the next one does."""
        self._left = _MOST if on else 0

    def listen_to(self, session: Any) -> None:
        """Mark what the kernel's `session` publishes."""
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
            if self._left and message["header"]["msg_type"] in _MARKED:
                self._left -= 1
                # As one write it is not mixed with another's; the program may have closed its end.
                with contextlib.suppress(OSError):
                    os.write(self._stdout, self._begin + message["msg_id"].encode() + contract.MARK_END)
            return send(stream, message, ident=ident, buffers=buffers, track=track)

        session.send = mark_and_send
