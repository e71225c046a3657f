"""The displays of one cell, and the text among them: from messages to what a notebook would show. No I/O.

Displays have the shape of nbformat 4's `display_data` and `execute_result`. Their content comes from user
code, by way of `sessions.kernels.plain_json`. Values of an unexpected type are converted or left out.
"""

from collections.abc import Callable
from typing import Final

from sessions.kernels.cells.order import ShownOrder
from sessions.kernels.messages import Message
from sessions.kernels.plain_json import whole_number
from sessions.models import ClearOutput, Display, JsonObject, OutputChunk, Shown

_MOST_TRAFFIC: Final = 2
"""All displays of a cell, also cleared and replaced ones, may take this many times the limit."""
_DISPLAY_KINDS: Final = frozenset({"display_data", "execute_result", "update_display_data"})
_LEFT_OUT: Final = "[output left out: over the limit of {limit} bytes]"


class DisplayCollector:
    """Collects the displays of one cell up to a limit, and passes each on as an event.

    Displays over the limit are left out, and a note says so. Clearing or replacing a display frees its bytes,
    but the bytes of all displays together are limited too.
    """

    def __init__(self, limit_bytes: int, emit: Callable[[OutputChunk | Display | ClearOutput], None]) -> None:
        self.outputs: list[JsonObject] = []
        """The displays that a notebook would show now."""
        self.truncated = False
        self.held_bytes = 0
        """Approximate size of `outputs` in memory."""
        self._limit_bytes = limit_bytes
        self._emit = emit
        self._traffic_bytes = 0
        self._clear_next = False
        self._order = ShownOrder()
        self._last_clear: bool | None = None
        """`wait` of the last clearing; None if an output has followed it."""
        self._sizes: dict[int, int] = {}
        """Bytes of each output, by the identity of the output."""
        self._by_display_id: dict[str, list[JsonObject]] = {}

    @property
    def order(self) -> tuple[Shown, ...]:
        """The text and the displays that a notebook would show now, in their order."""
        return self._order.entries(self.outputs)

    def print(self, chunk: OutputChunk) -> None:
        """Take a piece of text."""
        self._begin_output()
        self._order.print(chunk)
        self._emit(chunk)

    def take(self, message: Message) -> None:
        """Take a message that the kernel published for the cell."""
        if not message.too_large:
            self.add(message.kind, message.content, message.weight)
        elif not message.kind or message.kind in _DISPLAY_KINDS:
            self.note_left_out()

    def add(self, kind: str, content: JsonObject, size_bytes: int) -> None:
        """Take a message of the given kind and content; `size_bytes` is its approximate size in memory."""
        if kind == "clear_output":
            wait = bool(content.get("wait"))
            self._clear(wait=wait)
            # Code can clear very often. What changes nothing is no event.
            if self._last_clear is None or (self._last_clear and not wait):
                self._emit(ClearOutput(wait))
            self._last_clear = wait
            return
        if kind not in _DISPLAY_KINDS:
            return
        display_id = _display_id(content)
        replaced = self._by_display_id.get(display_id or "", []) if kind == "update_display_data" else []
        # An update takes its size once for each display that it replaces.
        size = size_bytes * max(1, len(replaced))
        self._traffic_bytes += size
        if self._kept_beside(kind, replaced) + size > self._limit_bytes or self._traffic_bytes > (
            _MOST_TRAFFIC * self._limit_bytes
        ):
            self.note_left_out()
            return
        metadata = content.get("metadata")
        output: JsonObject = {
            "output_type": "execute_result" if kind == "execute_result" else "display_data",
            "data": _clean_bundle(content.get("data")),
            "metadata": metadata if isinstance(metadata, dict) else {},
        }
        if kind == "execute_result":
            output["execution_count"] = whole_number(content.get("execution_count"))
        if kind == "update_display_data":
            self._replace(replaced, output, display_id, size_bytes)
            return
        self._append(output, size_bytes)
        if display_id is not None:
            self._by_display_id.setdefault(display_id, []).append(output)
        # A later update changes `output`, but must not change an event that waits to be read.
        self._emit(Display(dict(output), display_id))

    def note_left_out(self) -> None:
        """Add a note that displays are missing, once."""
        if self.truncated:
            return
        self.truncated = True
        note = _LEFT_OUT.format(limit=self._limit_bytes)
        output: JsonObject = {
            "output_type": "display_data",
            "data": {"text/plain": note},
            "metadata": {},
        }
        self._append(output, len(note))
        self._emit(Display(output))

    def _kept_beside(self, kind: str, replaced: list[JsonObject]) -> int:
        """Return the bytes of the displays that stay when a message of this kind is added."""
        if kind == "update_display_data":
            return self.held_bytes - sum(self._sizes[id(output)] for output in replaced)
        return 0 if self._clear_next else self.held_bytes

    def _append(self, output: JsonObject, size_bytes: int) -> None:
        self._begin_output()
        self.outputs.append(output)
        self._order.show(output)
        self._sizes[id(output)] = size_bytes
        self.held_bytes += size_bytes

    def _begin_output(self) -> None:
        self._last_clear = None
        if self._clear_next:
            self._clear(wait=False)

    def _clear(self, *, wait: bool) -> None:
        """Remove all that is shown; with `wait`, when the next text or display is added."""
        self._clear_next = wait
        if not wait:
            self.outputs.clear()
            self._order.clear()
            self._sizes.clear()
            self._by_display_id.clear()
            self.held_bytes = 0

    def _replace(
        self, replaced: list[JsonObject], output: JsonObject, display_id: str | None, size_bytes: int
    ) -> None:
        if not replaced:
            return
        for shown in replaced:
            shown["data"], shown["metadata"] = output["data"], output["metadata"]
            self.held_bytes += size_bytes - self._sizes[id(shown)]
            self._sizes[id(shown)] = size_bytes
        self._emit(Display(output, display_id, replaces=True))


def _clean_bundle(data: object) -> JsonObject:
    """Return a MIME bundle whose values are text, except those of JSON types."""
    bundle: JsonObject = {}
    for mime, value in data.items() if isinstance(data, dict) else ():
        if _is_json_type(mime):
            bundle[mime] = value
        elif isinstance(value, list) and all(isinstance(line, str) for line in value):
            bundle[mime] = "".join(value)
        else:
            bundle[mime] = value if isinstance(value, str) else str(value)
    return bundle


def _is_json_type(mime: str) -> bool:
    return mime == "application/json" or mime.endswith("+json")


def _display_id(content: JsonObject) -> str | None:
    transient = content.get("transient")
    display_id = transient.get("display_id") if isinstance(transient, dict) else None
    return display_id if isinstance(display_id, str) else None
