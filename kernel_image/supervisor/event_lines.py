"""Splits what the kernel writes to its event pipe into lines, each byte being looked at once."""

import re
from collections.abc import Callable
from typing import Final

from kernel_image import contract

_LINE_BYTES: Final = 1 << 25
_MOST_LINES: Final = 1000
"""Lines of one piece that are passed on. A kernel writes far fewer, and each of them costs time."""
_NOT_EMPTY: Final = re.compile(rb"[^\n]+")


class EventLines:
    """Collects the pieces of a line until its end. The rest of a line that is too long is dropped."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        """`on_line` is called with each line, without its newline. Empty lines are left out."""
        self._on_line = on_line
        self._line = bytearray()

    def add(self, data: bytes) -> None:
        """Add a piece that was read from the pipe."""
        end, newline, rest = data.partition(b"\n")
        self._extend(end)
        if not newline:
            return
        if self._line:
            line, self._line = bytes(self._line), bytearray()
            self._on_line(line)
        middle, _, begin = rest.rpartition(b"\n")
        lines: list[bytes] = _NOT_EMPTY.findall(middle)
        for line in lines[:_MOST_LINES]:
            self._on_line(line)
        if contract.RECORD_PREFIX in middle:
            for line in lines[_MOST_LINES:]:
                if line.startswith(contract.RECORD_PREFIX):
                    self._on_line(line)
        self._extend(begin)

    def _extend(self, part: bytes) -> None:
        self._line += part[: _LINE_BYTES - len(self._line)]
