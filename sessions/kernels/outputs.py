"""From a kernel's messages to what a notebook would show. Pure: no I/O.

Shapes are nbformat 4's `display_data` and `execute_result`. Content comes from the user's code by way
of `sessions.kernels.plain_json`, and whatever is not of the agreed type is made so or left out.
"""

from dataclasses import dataclass, field
from typing import Final

from sessions.models import JsonObject

_TRAFFIC: Final = 5
"""How many times the budget may come in all, what was cleared or updated since included."""
_SHOWN: Final = frozenset({"display_data", "execute_result", "update_display_data"})
_MAX_COUNT: Final = 1 << 53
_LEFT_OUT: Final = "[output left out: over the limit of {limit} bytes]"


def _is_json_type(mime: str) -> bool:
    return mime == "application/json" or mime.endswith("+json")


def _clean_bundle(data: object) -> JsonObject:
    bundle: JsonObject = {}
    for mime, value in data.items() if isinstance(data, dict) else ():
        if _is_json_type(mime):
            bundle[mime] = value
        elif isinstance(value, list) and all(isinstance(line, str) for line in value):
            bundle[mime] = "".join(value)
        else:
            bundle[mime] = value if isinstance(value, str) else str(value)
    return bundle


def whole_number(value: object) -> int | None:
    """A count as it can be: not negative, and no larger than every reader takes."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT
    return value if is_count and isinstance(value, int) else None


def _display_id(content: JsonObject) -> str | None:
    transient = content.get("transient")
    display_id = transient.get("display_id") if isinstance(transient, dict) else None
    return display_id if isinstance(display_id, str) else None


@dataclass(frozen=True)
class Shown:
    """One output as it comes: `replaces` an earlier one of the same `display_id` if that is set."""

    output: JsonObject
    display_id: str | None = None
    replaces: bool = False


@dataclass
class OutputFold:
    """Collects outputs within a budget of `limit_bytes`; beyond it they are left out, and it says so.

    What is cleared or updated gives its share back, but all that comes is bounded too.
    """

    limit_bytes: int
    outputs: list[JsonObject] = field(default_factory=list)
    truncated: bool = False
    _sizes: dict[int, int] = field(default_factory=dict)
    """Bytes of each output shown, by identity."""
    _held: int = 0
    """Bytes of all of them."""
    _traffic: int = 0
    _clear_next: bool = False
    _by_display_id: dict[str, list[JsonObject]] = field(default_factory=dict)

    @property
    def held_bytes(self) -> int:
        """About what the outputs take that are shown."""
        return self._held

    def add(self, kind: str, content: JsonObject, size_bytes: int) -> Shown | None:
        """Take in a message; returns what a client that follows along should show now."""
        if kind == "clear_output":
            self._clear(wait=bool(content.get("wait")))
            return None
        if kind not in _SHOWN:
            return None
        display_id = _display_id(content)
        earlier = self._by_display_id.get(display_id or "", []) if kind == "update_display_data" else []
        # An update is worth as much as what it changes.
        size = size_bytes * max(1, len(earlier))
        self._traffic += size
        if self._kept_beside(kind, earlier) + size > self.limit_bytes or self._traffic > (
            _TRAFFIC * self.limit_bytes
        ):
            return self.leave_out()
        metadata = content.get("metadata")
        output: JsonObject = {
            "output_type": "execute_result" if kind == "execute_result" else "display_data",
            "data": _clean_bundle(content.get("data")),
            "metadata": metadata if isinstance(metadata, dict) else {},
        }
        if kind == "execute_result":
            output["execution_count"] = whole_number(content.get("execution_count"))
        if kind == "update_display_data":
            return self._update(output, display_id, earlier, size_bytes)
        self._append(output, size_bytes)
        if display_id is not None:
            self._by_display_id.setdefault(display_id, []).append(output)
        # An update changes what is kept, and not what is on its way to somebody.
        return Shown(dict(output), display_id)

    def _kept_beside(self, kind: str, replaced: list[JsonObject]) -> int:
        """Bytes of the outputs that stay when a message of this kind is taken in."""
        if kind == "update_display_data":
            return self._held - sum(self._sizes[id(output)] for output in replaced)
        return 0 if self._clear_next else self._held

    def _append(self, output: JsonObject, size_bytes: int) -> None:
        if self._clear_next:
            self._clear(wait=False)
        self.outputs.append(output)
        self._sizes[id(output)] = size_bytes
        self._held += size_bytes

    def _clear(self, *, wait: bool) -> None:
        self._clear_next = wait
        if not wait:
            self.outputs.clear()
            self._sizes.clear()
            self._by_display_id.clear()
            self._held = 0

    def _update(
        self, output: JsonObject, display_id: str | None, earlier: list[JsonObject], size_bytes: int
    ) -> Shown | None:
        if not earlier:
            return None
        for shown in earlier:
            shown["data"], shown["metadata"] = output["data"], output["metadata"]
            self._held += size_bytes - self._sizes[id(shown)]
            self._sizes[id(shown)] = size_bytes
        return Shown(output, display_id, replaces=True)

    def leave_out(self) -> Shown | None:
        """Something was shown that can't be: say so, once."""
        if self.truncated:
            return None
        self.truncated = True
        note = _LEFT_OUT.format(limit=self.limit_bytes)
        output: JsonObject = {
            "output_type": "display_data",
            "data": {"text/plain": note},
            "metadata": {},
        }
        self._append(output, len(note))
        return Shown(output)


def is_shown(kind: str) -> bool:
    """Whether messages of this kind are outputs."""
    return kind in _SHOWN
