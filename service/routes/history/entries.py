"""What a stored cell has shown, in order: pieces of its text, and its rich outputs."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from service.routes.history.pieces import encode
from service.routes.history.stored_json import Span, StoredJson
from sessions.records import TEXT_BYTES

_LINE_BREAK: Final = b"\\n"
"""A line break in a JSON string."""


@dataclass(frozen=True)
class Entry:
    """A piece of text, or a rich output.

    Attributes:
        span: of the text, inside its string; or of the output.
        stream: `stdout` or `stderr`; empty for a rich output.
    """

    span: Span
    stream: str = ""


async def entries(stored: StoredJson, fields: Mapping[str, Span]) -> list[Entry]:
    """Return what a cell has shown. The text of the last value is left out, because it is an output, too.

    Rows of earlier versions have no order: text is before outputs.
    """
    outputs = [member.value async for member in stored.members(fields["outputs"][0])]
    if "order" in fields:
        text = {name: fields[name][0] + 1 for name in ("stdout", "stderr")}
        order = await stored.load(fields["order"])
        return [
            Entry(outputs[given])
            if isinstance(given, int)
            else Entry((text[given[0]] + given[1], text[given[0]] + given[2]), given[0])
            for given in order
        ]
    stdout, stderr = fields["stdout"], fields["stderr"]
    printed = [
        Entry((stdout[0] + 1, await _end_without_value(stored, stdout, outputs)), "stdout"),
        Entry((stderr[0] + 1, stderr[1] - 1), "stderr"),
    ]
    return [*(entry for entry in printed if entry.span[0] < entry.span[1]), *map(Entry, outputs)]


async def stream_output(stored: StoredJson, entry: Entry) -> AsyncIterator[bytes]:
    """Yield a piece of text as an output of notebook format 4."""
    yield encode({"output_type": "stream", "name": entry.stream})[:-1] + b',"text":"'
    async for piece in stored.pieces(entry.span):
        yield piece
    yield b'"}'


async def _end_without_value(stored: StoredJson, stdout: Span, outputs: Sequence[Span]) -> int:
    """Return where the printed text ends before the text of the last value, which the kernel printed too."""
    if outputs:
        output = await stored.fields(outputs[-1][0])
        if await stored.load(output["output_type"]) == "execute_result":
            async for member in stored.members(output["data"][0]):
                start, end = member.value
                if member.name == "text/plain" and await stored.byte(start) == ord('"'):
                    return await _end_without(stored, stdout, (start + 1, end - 1))
    return stdout[1] - 1


async def _end_without(stored: StoredJson, printed: Span, text: Span) -> int:
    """Return where a printed text ends before a text and a line break, if it ends with them."""
    end = printed[1] - 1
    at = end - (text[1] - text[0]) - len(_LINE_BREAK)
    if at <= printed[0] or await stored.read((end - len(_LINE_BREAK), end)) != _LINE_BREAK:
        return end
    for position in range(text[0], text[1], TEXT_BYTES):
        size = min(TEXT_BYTES, text[1] - position)
        there = at + position - text[0]
        if await stored.read((there, there + size)) != await stored.read((position, position + size)):
            return end
    return end if await is_escaped(stored, printed[0] + 1, at) else at


async def is_escaped(stored: StoredJson, start: int, at: int) -> bool:
    """Return whether the byte at a position of a string belongs to an escape that begins before it."""
    backslashes = 0
    while at > start:
        before = await stored.read((max(start, at - TEXT_BYTES), at))
        others = before.rstrip(b"\\")
        backslashes += len(before) - len(others)
        if others:
            break
        at -= len(before)
    return backslashes % 2 == 1
