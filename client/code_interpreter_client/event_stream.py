"""Server-sent events of an execution, from bytes as they come."""

import codecs
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from code_interpreter_client import wire
from code_interpreter_client.errors import BadAnswer, ExecutionLost
from code_interpreter_client.models import Event, InputRequest, Printed, Result, Shown

_KINDS: Final[dict[str, type]] = {
    "output": Printed,
    "display": Shown,
    "input_request": InputRequest,
    "result": Result,
}


class EventReader:
    """Reads one stream. `result` is there once its event has been read."""

    def __init__(self) -> None:
        self.result: Result | None = None
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._pending = ""
        self._kind = ""
        self._data: list[str] = []
        self._text: dict[str, list[str]] = {"stdout": [], "stderr": []}

    def read(self, chunk: bytes) -> Iterator[Event]:
        """The events that end in this piece.

        Raises:
            ExecutionLost: the service says that it lost the execution.
            BadAnswer: what comes is not as agreed.
        """
        # A line may end in \\r\\n as well, whose halves may come apart.
        text = self._decode(chunk)
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            event = self._line(line.removesuffix("\r"))
            if event is not None:
                yield event

    def _line(self, line: str) -> Event | None:
        if not line:
            kind, data = self._kind, "\n".join(self._data)
            self._kind, self._data = "", []
            return self._event(kind, data) if data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        return None

    def _event(self, kind: str, data: str) -> Event | None:
        try:
            body = json.loads(data)
        except ValueError as error:
            raise BadAnswer("an event that is no JSON") from error
        if kind == "error":
            message = body.get("message") if isinstance(body, dict) else None
            raise ExecutionLost(str(message or "the service lost this execution"))
        if kind not in _KINDS:
            return None
        event: Event = wire.read(_KINDS[kind], body)
        if isinstance(event, Printed):
            self._text.setdefault(event.stream, []).append(event.text)
        if isinstance(event, Result):
            printed = {stream: "".join(parts) for stream, parts in self._text.items()}
            event = self.result = replace(event, stdout=printed["stdout"], stderr=printed["stderr"])
        return event
