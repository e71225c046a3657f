"""JSON that comes from the user's code, made so plain that nothing can stumble over it. Pure.

What Python's own parser takes, a later reader may not: NaN, numbers of thousands of digits, halves of
characters, and nesting that no recursion survives. And a megabyte of `[[],[],[]]` is seventy megabytes
of objects, so they are counted.
"""

import json
import math
from dataclasses import dataclass
from typing import Any, Final

_MAX_DEPTH: Final = 64
_MAX_VALUES: Final = 500_000
"""Of one text, as its punctuation tells: about a quarter of a second's work."""
_SURELY_FEW_BYTES: Final = 1 << 16
_MAX_COUNT: Final = 1 << 53
_LARGEST_INTEGER: Final = (1 << 64) - 1
"""Beyond it many readers of JSON fail; a float says about as much."""


class TooManyValues(ValueError):
    """The text is too large to be read in good time."""


@dataclass(frozen=True)
class Plain:
    """A value, and how many values it is made of."""

    value: Any
    count: int


def parse(text: bytes, *, max_values: float = _MAX_VALUES) -> Plain:
    """Read JSON. `max_values` is for text of more than some kilobytes.

    Raises:
        ValueError: it is none, or `TooManyValues`.
        RecursionError: it is nested a thousand deep.
    """
    if len(text) > _SURELY_FEW_BYTES and sum(map(text.count, (b",", b"[", b"{"))) > max_values:
        raise TooManyValues(f"more than {max_values}")
    cleaner = _Cleaner()
    value = cleaner.clean(json.loads(text.decode("utf-8", "replace")), 0)
    return Plain(value, cleaner.count)


def whole_number(value: object) -> int | None:
    """Return `value` if it is a count: an integer from 0 up to 2**53, which every JSON reader can hold."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT
    return value if is_count and isinstance(value, int) else None


def clean_text(text: str) -> str:
    """`text` as it can be encoded: lone surrogates become '?'."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class _Cleaner:
    def __init__(self) -> None:
        self.count = 0

    def clean(self, value: Any, depth: int) -> Any:
        """`value` without NaN and infinities, which become null, cut off where it is nested deeply."""
        self.count += 1
        if isinstance(value, str):
            return clean_text(value)
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, dict | list) and depth >= _MAX_DEPTH:
            return "..."
        if isinstance(value, dict):
            return {clean_text(name): self.clean(item, depth + 1) for name, item in value.items()}
        if isinstance(value, list):
            return [self.clean(item, depth + 1) for item in value]
        if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
            return self._as_float(value)
        return value

    @staticmethod
    def _as_float(value: int) -> float | None:
        try:
            return float(value)
        except OverflowError:
            return None
