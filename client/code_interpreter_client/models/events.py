"""Events of a stream."""

from dataclasses import dataclass, field
from typing import Any, Literal

from code_interpreter_client.models.outputs import Output
from code_interpreter_client.models.results import Result


@dataclass(frozen=True)
class Printed:
    """Text that the code printed."""

    stream: Literal["stdout", "stderr"]
    text: str = field(metadata={"wire": "data"})


@dataclass(frozen=True)
class Shown(Output):
    """A rich output. One of the type `update_display_data` replaces those with the same `display_id`."""

    transient: dict[str, Any] | None = None

    @property
    def display_id(self) -> str | None:
        """The id that updates refer to."""
        value = (self.transient or {}).get("display_id")
        return value if isinstance(value, str) else None


@dataclass(frozen=True)
class Cleared:
    """All that was shown so far, text and displays, is removed; with `wait`, when the next output comes."""

    wait: bool = False


@dataclass(frozen=True)
class InputRequest:
    """The code waits for a line of input. Send it with `Session.answer`."""

    prompt: str
    password: bool = False


Event = Printed | Shown | Cleared | InputRequest | Result
"""The last event of a stream is its `Result`; `stdout` and `stderr` of that contain all printed text."""
