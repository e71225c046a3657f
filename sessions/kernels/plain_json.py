"""Parsing JSON that comes from user code, into values that every later reader can handle. No I/O.

Python's parser accepts more than other readers: NaN, numbers of thousands of digits, lone surrogates, and
nesting that is too deep for recursion. Such values are replaced. Values are also counted, as a megabyte of
`[[],[],[]]` becomes seventy megabytes of objects.
"""

import json
import math
from dataclasses import dataclass
from typing import Any, Final

_MAX_DEPTH: Final = 64
_MAX_VALUES: Final = 500_000
"""Values in one text, counted by its punctuation. Parsing them takes about a quarter of a second."""
_UNCOUNTED_BYTES: Final = 1 << 16
"""Texts of up to this size are parsed without counting."""
_MAX_COUNT: Final = 1 << 53
_LARGEST_INTEGER: Final = (1 << 64) - 1
"""Many JSON readers fail on larger integers, which become floats."""


class TooManyValues(ValueError):
    """The text has too many values to be parsed in a short time."""


@dataclass(frozen=True)
class Plain:
    """A value, and the number of values that it consists of."""

    value: Any
    count: int


def parse(text: bytes, *, max_values: float = _MAX_VALUES) -> Plain:
    """Parse JSON.

    Args:
        text: JSON in UTF-8. Invalid bytes are replaced.
        max_values: limit for the number of values; not checked for texts of up to 64 KiB.

    Raises:
        TooManyValues: the text has more values.
        ValueError: the text is not JSON.
        RecursionError: the text is nested about a thousand levels deep.
    """
    if len(text) > _UNCOUNTED_BYTES and sum(map(text.count, (b",", b"[", b"{"))) > max_values:
        raise TooManyValues(f"more than {max_values} values")
    cleaner = _Cleaner()
    value = cleaner.clean(json.loads(text.decode("utf-8", "replace")), 0)
    return Plain(value, cleaner.count)


def whole_number(value: object) -> int | None:
    """Return `value` if it is a count: an integer from 0 up to 2**53, which every JSON reader can hold."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT
    return value if is_count and isinstance(value, int) else None


def clean_text(text: str) -> str:
    """Return `text` with '?' in place of lone surrogates, so that it can be encoded."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


class _Cleaner:
    def __init__(self) -> None:
        self.count = 0

    def clean(self, value: Any, depth: int) -> Any:
        """Return `value` with None for NaN and infinities, and "..." for levels that are too deep."""
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
