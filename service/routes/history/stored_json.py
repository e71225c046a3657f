"""Reads JSON from the registry in pieces: finds the members of objects and arrays without decoding them.

A decoded text may take four bytes for each character, and a result has up to tens of megabytes. So the texts
are copied from the registry to the caller as they are. Everything here is given by position: a span is the
position of the first byte of a value, and the position after its last byte.
"""

import json
import re
from collections.abc import AsyncIterator
from typing import Any, Final

from sessions.records import TEXT_BYTES, StoredText

Span = tuple[int, int]

_QUOTE: Final = ord('"')
_OPEN: Final = b"[{"
_CLOSE: Final = b"]}"
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[\[{\]}]', re.DOTALL)
_IN_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_SCALAR: Final = re.compile(rb"[^,\]}\s]*+")
_BETWEEN: Final = re.compile(rb"[\s,:]*+")
_NAME_BYTES: Final = 1000
"""Longer names of members are not decoded."""


class Member:
    """A member of an object, or an element of an array.

    Attributes:
        name: of the member; None if it is very long, and for an element.
        key: span of the name; empty for an element.
        value: span of the value.
    """

    __slots__ = ("key", "name", "value")

    def __init__(self, name: str | None, key: Span, value: Span) -> None:
        self.name = name
        self.key = key
        self.value = value


class StoredJson:
    """A JSON text, of which one piece is in memory. The text is valid JSON: the service has written it."""

    def __init__(self, text: StoredText) -> None:
        self._text = text
        self._piece = b""
        self._start = 0
        self._ends: dict[int, int] = {}
        """Ends of long strings by their positions. A string is reached through each object around it."""

    async def pieces(self, span: Span) -> AsyncIterator[bytes]:
        """Yield the bytes of a span."""
        position, end = span
        while position < end:
            piece, at = await self._at(position)
            found = piece[at : at + end - position]
            position += len(found)
            yield found

    async def read(self, span: Span) -> bytes:
        """Return the bytes of a span, which is small."""
        return b"".join([piece async for piece in self.pieces(span)])

    async def load(self, span: Span) -> Any:
        """Return the value of a span, which is small."""
        return json.loads(await self.read(span))

    async def byte(self, position: int) -> int:
        """Return the byte at a position."""
        piece, at = await self._at(position)
        return piece[at]

    async def members(self, position: int) -> AsyncIterator[Member]:
        """Yield the members of the object, or of the array, that begins at a position."""
        is_object = await self.byte(position) == _OPEN[1]
        position = await self._run(_BETWEEN, position + 1)
        while await self.byte(position) not in _CLOSE:
            name, key = None, (position, position)
            if is_object:
                key = (position, await self._end_of(position))
                if key[1] - key[0] <= _NAME_BYTES:
                    name = await self.load(key)
                position = await self._run(_BETWEEN, key[1])
            value = (position, await self._end_of(position))
            yield Member(name, key, value)
            position = await self._run(_BETWEEN, value[1])

    async def fields(self, position: int) -> dict[str, Span]:
        """Return the values of an object with few members by name."""
        return {member.name or "": member.value async for member in self.members(position)}

    async def _at(self, position: int) -> tuple[bytes, int]:
        """Return a piece of the text, and where a position is in it, with two bytes if the text has two."""
        at = position - self._start
        if not 0 <= at < len(self._piece) - 1:
            self._piece = await self._text.read(position, TEXT_BYTES)
            self._start = position
            at = 0
            if not self._piece:
                raise ValueError("a stored text is not valid JSON")
        return self._piece, at

    async def _run(self, pattern: re.Pattern[bytes], position: int) -> int:
        """Return the position after the bytes that a pattern matches."""
        while position < self._text.size:
            piece, at = await self._at(position)
            end = _end(pattern, piece, at)
            position += end - at
            if end < len(piece):
                break
        return position

    async def _end_of(self, position: int) -> int:
        """Return the position after the value that begins at a position."""
        first = await self.byte(position)
        if first == _QUOTE:
            return await self._end_of_string(position)
        if first in _OPEN:
            return await self._end_of_container(position + 1)
        return await self._run(_SCALAR, position)

    async def _end_of_string(self, begin: int) -> int:
        """Return the position after the string that begins at a position."""
        if begin in self._ends:
            return self._ends[begin]
        position = begin + 1
        while True:
            piece, at = await self._at(position)
            end = _end(_IN_STRING, piece, at)
            position += end - at
            if end < len(piece) and piece[end] == _QUOTE:
                if position - begin > TEXT_BYTES:
                    self._ends[begin] = position + 1
                return position + 1

    async def _end_of_container(self, position: int) -> int:
        """Return the position after the object or array that a position is in."""
        depth = 1
        while True:
            piece, at = await self._at(position)
            start = position - at
            for token in _TOKEN.finditer(piece, at):
                first = piece[token.start()]
                if first == _QUOTE:
                    if not token[1]:
                        position = await self._end_of_string(start + token.start())
                        break
                elif first in _OPEN:
                    depth += 1
                else:
                    depth -= 1
                    if not depth:
                        return start + token.end()
            else:
                position = start + len(piece)


def _end(pattern: re.Pattern[bytes], piece: bytes, at: int) -> int:
    found = pattern.match(piece, at)
    return at if found is None else found.end()
