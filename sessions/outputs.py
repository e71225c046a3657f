"""From a kernel's messages to what a notebook would show. Pure: no I/O.

Shapes are nbformat 4's `display_data` and `execute_result`. Content comes from the user's code, so
whatever is not of the agreed type is made so or left out.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Final

from sessions.models import JsonObject

_MAX_DEPTH: Final = 64
_TRAFFIC: Final = 5
"""How many times the budget may come in all, what was cleared or updated since included."""
_LEFT_OUT: Final = "[output left out: over the limit of {limit} bytes]"


def clean_text(text: str) -> str:
    """`text` as it can be encoded: lone surrogates become '?'."""
    return text.encode("utf-8", "replace").decode()


def _clean_json(value: Any, depth: int = 0) -> Any:
    """`value` as any JSON reader takes it: NaN and infinities are null, deep nesting is cut off."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict | list) and depth >= _MAX_DEPTH:
        return "..."
    if isinstance(value, dict):
        return {clean_text(name): _clean_json(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_clean_json(item, depth + 1) for item in value]
    return value


def _is_json_type(mime: str) -> bool:
    return mime == "application/json" or mime.endswith("+json")


def _clean_bundle(data: object) -> JsonObject:
    bundle: JsonObject = {}
    for mime, value in data.items() if isinstance(data, dict) else ():
        if _is_json_type(mime):
            bundle[clean_text(mime)] = _clean_json(value)
        elif isinstance(value, list) and all(isinstance(line, str) for line in value):
            bundle[clean_text(mime)] = clean_text("".join(value))
        else:
            bundle[clean_text(mime)] = clean_text(value if isinstance(value, str) else str(value))
    return bundle


def _clean_metadata(metadata: object) -> JsonObject:
    return _clean_json(metadata) if isinstance(metadata, dict) else {}


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
    _traffic: int = 0
    _clear_next: bool = False
    _by_display_id: dict[str, list[JsonObject]] = field(default_factory=dict)

    def add(self, kind: str, content: JsonObject, size_bytes: int) -> Shown | None:
        """Take in a message; returns what a client that follows along should show now."""
        if kind == "clear_output":
            self._clear(wait=bool(content.get("wait")))
            return None
        if kind not in ("display_data", "execute_result", "update_display_data"):
            return None
        display_id = _display_id(content)
        self._traffic += size_bytes
        fits = self._held(kind, display_id) + size_bytes <= self.limit_bytes
        if not fits or self._traffic > _TRAFFIC * self.limit_bytes:
            return self._leave_out()
        output: JsonObject = {
            "output_type": "execute_result" if kind == "execute_result" else "display_data",
            "data": _clean_bundle(content.get("data")),
            "metadata": _clean_metadata(content.get("metadata")),
        }
        if kind == "execute_result":
            count = content.get("execution_count")
            output["execution_count"] = (
                count if isinstance(count, int) and not isinstance(count, bool) else None
            )
        if kind == "update_display_data":
            return self._update(output, display_id, size_bytes)
        self._append(output)
        self._sizes[id(output)] = size_bytes
        if display_id is not None:
            self._by_display_id.setdefault(display_id, []).append(output)
        return Shown(output, display_id)

    def _held(self, kind: str, display_id: str | None) -> int:
        """Bytes of the outputs that stay when a message of this kind is taken in."""
        if kind == "update_display_data":
            replaced = {id(output) for output in self._by_display_id.get(display_id or "", ())}
            return sum(size for output, size in self._sizes.items() if output not in replaced)
        return 0 if self._clear_next else sum(self._sizes.values())

    def _append(self, output: JsonObject) -> None:
        if self._clear_next:
            self._clear(wait=False)
        self.outputs.append(output)

    def _clear(self, *, wait: bool) -> None:
        self._clear_next = wait
        if not wait:
            self.outputs.clear()
            self._sizes.clear()
            self._by_display_id.clear()

    def _update(self, output: JsonObject, display_id: str | None, size_bytes: int) -> Shown | None:
        earlier = self._by_display_id.get(display_id or "")
        if not earlier:
            return None
        for shown in earlier:
            shown["data"], shown["metadata"] = output["data"], output["metadata"]
            self._sizes[id(shown)] = size_bytes
        return Shown(output, display_id, replaces=True)

    def _leave_out(self) -> Shown | None:
        if self.truncated:
            return None
        self.truncated = True
        note = _LEFT_OUT.format(limit=self.limit_bytes)
        output: JsonObject = {
            "output_type": "display_data",
            "data": {"text/plain": note},
            "metadata": {},
        }
        self._append(output)
        return Shown(output)
