"""What a kernel and its supervisor tell each other about a cell. One JSON object a line.

The supervisor tells:

    {"begin": cell_id}   it gathers what the cell prints from now on
    {"answer": str}      the answer to an input_request

and the kernel:

    {"type": "input_request", "prompt": str, "password": bool}
    {"type": "record", "reply": {...}, "outputs": [[msg_type, content], ...]}   the cell has ended

The service asks the kernel to run a cell and the supervisor to gather what it prints, both at once,
and the kernel waits for the supervisor. At a record the supervisor ends the cell: all that the
program wrote is in its pipes by then. The service follows a cell over the kernel's own channels; if
it is not there when the cell ends (it was restarted, say), the record has what was published and
replied.
"""

import contextlib
import json
import os
from typing import Any, Final

_RECORD_CHARACTERS: Final = 1 << 24
_ANSWER_BYTES: Final = 1 << 16
_SHOWN: Final = frozenset({"display_data", "execute_result", "update_display_data", "clear_output"})


class Journal:
    """The kernel's end: `writer` leads to the supervisor, `answers` comes from it."""

    def __init__(self, writer: int, answers: int) -> None:
        self._writer = writer
        self._answers = answers
        self._outputs: list[tuple[str, dict[str, Any]]] = []
        self._characters = 0
        self._keeps = False
        self._unread = b""

    def listen_to(self, session: Any) -> None:
        """Remember what the kernel's `session` publishes to be shown."""
        send = session.send

        def remember_and_send(stream: Any, message: Any, content: Any = None, *args: Any, **more: Any) -> Any:
            if isinstance(message, dict):
                self._published(message["header"]["msg_type"], message["content"])
            else:
                self._published(message, content)
            return send(stream, message, content, *args, **more)

        session.send = remember_and_send

    def _published(self, kind: str, content: dict[str, Any]) -> None:
        if kind in _SHOWN and self._keeps:
            self._characters += 100 + sum(len(str(value)) for value in content.get("data", {}).values())
            if self._characters <= _RECORD_CHARACTERS:
                self._outputs.append((kind, content))

    def begin(self, cell_id: str | None, *, keep: bool) -> None:
        """A cell begins: what was published before is no part of it. `keep`: its outputs are recorded.

        With a `cell_id` this returns when the supervisor is ready for it.
        """
        self._keeps = keep
        self._outputs, self._characters = [], 0
        if cell_id is not None:
            # The code before may have closed these descriptors. The service copes with that.
            with contextlib.suppress(OSError, EOFError):
                while self._read() != {"begin": cell_id}:
                    pass

    def end(self, reply: dict[str, Any]) -> None:
        """Tell how the cell ended."""
        outputs, self._outputs, self._keeps = self._outputs, [], False
        self._write({"type": "record", "reply": reply, "outputs": outputs})

    def ask(self, prompt: str, *, password: bool) -> str:
        """Ask the caller and wait for a line. An interrupt ends the wait."""
        self._write({"type": "input_request", "prompt": prompt, "password": password})
        value: str = self._read()["answer"]
        return value

    def _read(self) -> dict[str, str]:
        while b"\n" not in self._unread:
            data = os.read(self._answers, _ANSWER_BYTES)
            if not data:
                raise EOFError("nobody answers")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        entry: dict[str, str] = json.loads(line)
        return entry

    def _write(self, entry: dict[str, Any]) -> None:
        data = json.dumps(entry, default=repr).encode() + b"\n"
        while data:
            data = data[os.write(self._writer, data) :]
