"""The order of what one cell shows: which text is before and after which display. No I/O."""

from typing import Final, cast

from sessions.models import JsonObject, OutputChunk, Shown, TextSpan

_MOST_SPANS: Final = 4_000
"""Pieces of text that have a place of their own. Later text is added to the last piece of its stream."""


class ShownOrder:
    """The text and the displays that a notebook would show now, in their order."""

    def __init__(self) -> None:
        self._entries: list[TextSpan | JsonObject] = []
        self._printed = {"stdout": 0, "stderr": 0}
        """Characters of each stream so far, cleared ones included."""
        self._spans = 0
        self._last: dict[str, int] = {}
        """Index of the last piece of text of each stream, if there are too many of them."""

    def print(self, chunk: OutputChunk) -> None:
        """Add text at the end."""
        begin = self._printed[chunk.stream]
        end = self._printed[chunk.stream] = begin + len(chunk.text)
        at = self._place(chunk.stream)
        if at is None:
            self._spans += 1
            self._entries.append(TextSpan(chunk.stream, begin, end))
        else:
            self._entries[at] = TextSpan(chunk.stream, cast("TextSpan", self._entries[at]).begin, end)

    def _place(self, stream: str) -> int | None:
        """Return the index of the piece that text is added to; None for a new piece."""
        last = self._entries[-1] if self._entries else None
        if isinstance(last, TextSpan) and last.stream == stream:
            return len(self._entries) - 1
        if self._spans < _MOST_SPANS:
            return None
        if stream in self._last:
            return self._last[stream]
        self._last[stream] = len(self._entries)
        return None

    def show(self, output: JsonObject) -> None:
        """Add a display at the end."""
        self._entries.append(output)

    def clear(self) -> None:
        """Remove everything."""
        self._entries.clear()
        self._last.clear()
        self._spans = 0

    def entries(self, outputs: list[JsonObject]) -> tuple[Shown, ...]:
        """Return the order of the text and of `outputs`, which are given by their index."""
        places = {id(output): index for index, output in enumerate(outputs)}
        return tuple(entry if isinstance(entry, TextSpan) else places[id(entry)] for entry in self._entries)
