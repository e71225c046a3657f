"""Convert the cells of a session to a Jupyter notebook of format 4.5.

The outputs of a cell are its text and its rich outputs as they were made, and then its error. For callers
without a notebook, the kernel also prints the last value and the traceback. In a notebook these are outputs
of their own, so they are removed from the printed text.
"""

import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import replace
from typing import Final

from service.routes.history.entries import entries, is_escaped, stream_output
from service.routes.history.pieces import as_string, encode, joined
from service.routes.history.stored_json import Member, Span, StoredJson
from sessions.models import JsonObject
from sessions.records import TEXT_BYTES, CellRecord, StoredCell

Fields = Mapping[str, Span]

MEDIA_TYPE: Final = "application/x-ipynb+json"

_METADATA: Final[JsonObject] = {
    "kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"},
    "language_info": {
        "name": "python",
        "mimetype": "text/x-python",
        "file_extension": ".py",
        "pygments_lexer": "ipython3",
        "codemirror_mode": {"name": "ipython", "version": 3},
        "nbconvert_exporter": "python",
    },
}
_REMOVED: Final[Mapping[str | None, str]] = {
    "result": "[the result was removed: the history was larger than KEY_HISTORY_MB]\n",
    "code": "[code and result were removed: the history was larger than KEY_HISTORY_MB]\n",
}
# Values of these media types alone may be something other than text.
_JSON_TYPE: Final = re.compile(r"application/(.*\+)?json")


async def stream(cells: AsyncIterable[StoredCell]) -> AsyncIterator[bytes]:
    """Yield the JSON of a valid notebook of the cells, in their order."""
    async for piece in joined(_notebook(cells)):
        yield piece


async def _notebook(cells: AsyncIterable[StoredCell]) -> AsyncIterator[bytes]:
    head = encode({"nbformat": 4, "nbformat_minor": 5, "metadata": _METADATA, "cells": []})
    begin, end = head.split(b"[]")
    yield begin + b"["
    separator = b""
    async for cell in cells:
        yield separator
        separator = b","
        async for piece in _code_cell(cell):
            yield piece
    yield b"]" + end


async def _code_cell(cell: StoredCell) -> AsyncIterator[bytes]:
    stored = None if cell.result is None else StoredJson(cell.result)
    fields = {} if stored is None else await stored.fields(0)
    yield encode({"cell_type": "code", "id": cell.record.cell_id, "metadata": {}})[:-1] + b',"source":'
    async for piece in as_string(cell.code):
        yield piece
    if stored is None:
        yield b',"execution_count":null,"outputs":' + encode(_without_result(cell.record)) + b"}"
        return
    yield b',"execution_count":' + await _execution_count(stored, fields) + b',"outputs":'
    separator = b"["
    async for output in _outputs(stored, fields):
        yield separator
        separator = b","
        async for piece in output:
            yield piece
    yield b"[]}" if separator == b"[" else b"]}"


def _without_result(cell: CellRecord) -> list[JsonObject]:
    """Return the outputs of a cell without a result, which say whether it was removed."""
    if cell.removed is None:
        return []
    return [{"output_type": "stream", "name": "stderr", "text": _REMOVED[cell.removed]}]


async def _execution_count(stored: StoredJson, fields: Fields) -> bytes:
    text = await stored.read(fields["execution_count"]) if "execution_count" in fields else b"null"
    return text if text.isdigit() else b"null"


async def _outputs(stored: StoredJson, fields: Fields) -> AsyncIterator[AsyncIterator[bytes]]:
    """Yield the pieces of each output."""
    error = await _error(stored, fields)
    end = await _end_without_traceback(stored, fields["stderr"], error)
    for entry in await entries(stored, fields):
        if not entry.stream:
            yield _rich_output(stored, entry.span)
        elif entry.stream == "stdout" or entry.span[1] <= end:
            yield stream_output(stored, entry)
        elif entry.span[0] < end:
            yield stream_output(stored, replace(entry, span=(entry.span[0], end)))
    if error is not None:
        yield _error_output(error)


async def _rich_output(stored: StoredJson, output: Span) -> AsyncIterator[bytes]:
    """Yield an output with only the fields that nbformat defines for its type."""
    fields = await stored.fields(output[0])
    kind = await stored.load(fields["output_type"])
    yield b'{"output_type":' + encode(kind) + b',"data":'
    separator = b"{"
    async for member in stored.members(fields["data"][0]):
        yield separator
        separator = b","
        async for piece in stored.pieces(member.key):
            yield piece
        yield b":"
        async for piece in _mime_value(stored, member):
            yield piece
    yield b'{},"metadata":' if separator == b"{" else b'},"metadata":'
    async for piece in stored.pieces(fields["metadata"]):
        yield piece
    if kind == "execute_result":
        yield b',"execution_count":' + await _execution_count(stored, fields)
    yield b"}"


async def _mime_value(stored: StoredJson, member: Member) -> AsyncIterator[bytes]:
    """Yield a value, which becomes text unless its media type is JSON."""
    if await stored.byte(member.value[0]) == ord('"') or _JSON_TYPE.fullmatch(member.name or ""):
        async for piece in stored.pieces(member.value):
            yield piece
        return
    if member.value[1] - member.value[0] <= TEXT_BYTES:
        yield encode(json.dumps(await stored.load(member.value)))
        return
    # The same text without spaces: a value of many megabytes is not decoded.
    yield b'"'
    async for piece in stored.pieces(member.value):
        yield piece.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    yield b'"'


async def _error(stored: StoredJson, fields: Fields) -> JsonObject | None:
    error: JsonObject | None = await stored.load(fields["error"])
    return error


async def _error_output(error: JsonObject) -> AsyncIterator[bytes]:
    traceback = error["traceback"] or [f"{error['name']}: {error['value']}"]
    output = {"ename": error["name"], "evalue": error["value"], "traceback": traceback}
    yield encode({"output_type": "error"} | output)


async def _end_without_traceback(stored: StoredJson, stderr: Span, error: JsonObject | None) -> int:
    """Return where the printed text ends before the traceback of an error, which the kernel printed too."""
    end = stderr[1] - 1
    if error is None or not error["traceback"]:
        return end
    text = "\n".join(error["traceback"]).rstrip("\n") + "\n"
    # Rows of earlier versions are in ASCII.
    for encoded in (encode(text), json.dumps(text).encode()):
        at = end - len(encoded) + 2
        if at > stderr[0] and await stored.read((at, end)) == encoded[1:-1]:
            return end if await is_escaped(stored, stderr[0] + 1, at) else at
    return end
