"""The kernel's two pipes to its supervisor. Both carry one JSON object a line.

Commands from the supervisor:

    {"begin": cell_id}   run the cell: the supervisor now collects what it prints
    {"answer": str}      the answer to an input_request

Events from the kernel:

    {"type": "input_request", "prompt": str, "password": bool}
    {"type": "record", "reply": {...}, "outputs": [[msg_type, content, msg_id], ...]}   the cell has ended

The service sends the cell to the kernel and to the supervisor at the same time, and the kernel waits
for the supervisor's command. When the supervisor reads a record, it ends the cell: by then, all that
the program wrote is in its pipes. The service follows a cell over the kernel's own channels. The
record repeats the outputs and the reply for a service that was restarted meanwhile.
"""

import contextlib
import json
import os
from typing import Any, Final

_RECORD_CHARACTERS: Final = 1 << 24
_COMMAND_BYTES: Final = 1 << 16
_OUTPUT_TYPES: Final = frozenset({"display_data", "execute_result", "update_display_data", "clear_output"})


class SupervisorPipes:
    """The kernel's ends of the pipes."""

    def __init__(self, events: int, commands: int) -> None:
        """`events` and `commands` are descriptors: the first to write, the second to read."""
        self._events = events
        self._commands = commands
        self._outputs: list[tuple[str, dict[str, Any], str]] = []
        self._characters = 0
        self._keeps_outputs = False
        self._unread = b""

    def record_outputs_of(self, session: Any) -> None:
        """Keep a copy of each output that the kernel's `jupyter_client` session publishes."""
        send = session.send

        def record_and_send(stream: Any, message: Any, content: Any = None, *args: Any, **more: Any) -> Any:
            if isinstance(message, dict):
                self._record(message["header"]["msg_type"], message["content"], message["msg_id"])
            return send(stream, message, content, *args, **more)

        session.send = record_and_send

    def _record(self, kind: str, content: dict[str, Any], message_id: str) -> None:
        if kind in _OUTPUT_TYPES and self._keeps_outputs:
            self._characters += 100 + sum(len(str(value)) for value in content.get("data", {}).values())
            if self._characters <= _RECORD_CHARACTERS:
                self._outputs.append((kind, content, message_id))

    def begin_cell(self, cell_id: str | None, *, keep_outputs: bool) -> None:
        """Begin a new record, and wait for the supervisor's command to run the cell.

        Args:
            cell_id: the cell to wait for; None to return at once.
            keep_outputs: whether the record contains the cell's outputs.
        """
        self._keeps_outputs = keep_outputs
        self._outputs, self._characters = [], 0
        if cell_id is not None:
            # Earlier code may have closed these descriptors. The service can handle the early start.
            with contextlib.suppress(OSError, EOFError):
                while self._read_command() != {"begin": cell_id}:
                    pass

    def end_cell(self, reply: dict[str, Any]) -> None:
        """Send the record of the cell. `reply` is the content of its execute_reply."""
        outputs, self._outputs, self._keeps_outputs = self._outputs, [], False
        self._write_event({"type": "record", "reply": reply, "outputs": outputs})

    def request_input(self, prompt: str, *, password: bool) -> str:
        """Ask the caller for a line of input and wait for it. An interrupt ends the wait."""
        self._write_event({"type": "input_request", "prompt": prompt, "password": password})
        value: str = self._read_command()["answer"]
        return value

    def _read_command(self) -> dict[str, str]:
        while b"\n" not in self._unread:
            data = os.read(self._commands, _COMMAND_BYTES)
            if not data:
                raise EOFError("the supervisor has closed the pipe, so the input cannot be answered")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        command: dict[str, str] = json.loads(line)
        return command

    def _write_event(self, event: dict[str, Any]) -> None:
        data = json.dumps(event, default=repr).encode() + b"\n"
        while data:
            data = data[os.write(self._events, data) :]
