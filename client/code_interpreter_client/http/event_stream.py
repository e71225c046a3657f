"""Events of an execution, from the server-sent events of the service."""

import json
from dataclasses import replace
from typing import Final

from httpx_sse import ServerSentEvent

from code_interpreter_client.errors import BadAnswer, ExecutionLost
from code_interpreter_client.http import wire
from code_interpreter_client.models.events import Cleared, Event, InputRequest, Printed, Shown
from code_interpreter_client.models.results import Result

_TYPES: Final[dict[str, type]] = {
    "output": Printed,
    "display": Shown,
    "clear_output": Cleared,
    "input_request": InputRequest,
    "result": Result,
}


class EventReader:
    """Reads the events of one execution. `result` is None until the `result` event has been read."""

    def __init__(self) -> None:
        self.result: Result | None = None
        self._text: dict[str, list[str]] = {"stdout": [], "stderr": []}

    def read(self, received: ServerSentEvent) -> Event | None:
        """Return the event, or None for one of a type that this version does not know.

        Raises:
            ExecutionLost: the service lost the execution.
            BadAnswer: the event is not valid.
        """
        if not received.data:
            # Browsers ignore events without data; httpx-sse does not.
            return None
        try:
            body = json.loads(received.data)
        except ValueError as error:
            raise BadAnswer("an event is not JSON") from error
        if received.event == "error":
            message = body.get("message") if isinstance(body, dict) else None
            raise ExecutionLost(str(message or "the service lost this execution"))
        if received.event not in _TYPES:
            return None
        event: Event = wire.read(_TYPES[received.event], body)
        if isinstance(event, Printed):
            self._text.setdefault(event.stream, []).append(event.text)
        if isinstance(event, Result):
            printed = {stream: "".join(parts) for stream, parts in self._text.items()}
            event = self.result = replace(event, stdout=printed["stdout"], stderr=printed["stderr"])
        return event
