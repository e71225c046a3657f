"""The wire form of cells, whose texts are copied from the registry."""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Final

from service.routes.history.entries import Entry, entries, stream_output
from service.routes.history.pieces import as_string, encode, joined
from service.routes.history.stored_json import Span, StoredJson
from service.routes.schemas.cells import CellInfo
from service.routes.schemas.execute import ExecuteResponse
from service.routes.shapes import Shape
from sessions.records import CellRecord, StoredCell

_DEFAULTS: Final = {
    name: None if field.is_required() else encode(field.get_default(call_default_factory=True))
    for name, field in ExecuteResponse.model_fields.items()
}
"""The fields of a result in their order, with what is sent if an older row does not have the field."""


async def page(cells: AsyncIterable[StoredCell], following: str | None, shape: Shape) -> AsyncIterator[bytes]:
    """Yield a page of cells as JSON; ``following`` is the cursor of the next page."""
    async for piece in joined(_page(cells, following, shape)):
        yield piece


async def one(cell: StoredCell, shape: Shape) -> AsyncIterator[bytes]:
    """Yield one cell as JSON."""
    async for piece in joined(_cell(cell, shape)):
        yield piece


async def _page(
    cells: AsyncIterable[StoredCell], following: str | None, shape: Shape
) -> AsyncIterator[bytes]:
    separator = b'{"cells":['
    empty = separator
    async for cell in cells:
        yield separator
        separator = b","
        async for piece in _cell(cell, shape):
            yield piece
    if separator == empty:
        yield empty
    yield b'],"next":' + encode(following) + b"}"


async def _cell(cell: StoredCell, shape: Shape) -> AsyncIterator[bytes]:
    begin, middle, end = _facts(cell.record)
    yield begin
    async for piece in as_string(cell.code):
        yield piece
    yield middle
    if cell.result is None:
        yield b"null"
    else:
        async for piece in _result(StoredJson(cell.result), shape):
            yield piece
    yield end


def _facts(record: CellRecord) -> tuple[bytes, bytes, bytes]:
    """Return the JSON of a cell before its code, between its code and its result, and after its result."""
    facts = CellInfo(
        cell_id=record.cell_id,
        number=record.number,
        code="",
        state=record.state,
        started_at=record.started_at,
        finished_at=record.finished_at,
        result=None,
        removed=record.removed,
    )
    begin, rest = facts.model_dump_json().encode().split(b'"code":""')
    middle, end = rest.split(b'"result":null')
    return begin + b'"code":', middle + b'"result":', end


async def _result(stored: StoredJson, shape: Shape) -> AsyncIterator[bytes]:
    fields = await stored.fields(0)
    separator = b"{"
    for name, default in _DEFAULTS.items():
        span = fields.get(name)
        if span is None and default is None:
            continue
        yield separator + encode(name) + b":"
        separator = b","
        if span is None:
            assert default is not None
            yield default
        elif name == "outputs" and (shape.refers or shape.ordered):
            async for piece in _outputs(stored, fields, shape):
                yield piece
        else:
            async for piece in stored.pieces(span):
                yield piece
    yield b"}"


async def _outputs(stored: StoredJson, fields: Mapping[str, Span], shape: Shape) -> AsyncIterator[bytes]:
    """Yield the outputs in the shape that the caller wants."""
    if shape.ordered:
        found = await entries(stored, fields)
    else:
        found = [Entry(member.value) async for member in stored.members(fields["outputs"][0])]
    separator = b"["
    for entry in found:
        yield separator
        separator = b","
        if entry.stream:
            pieces = stream_output(stored, entry)
        else:
            pieces = _reference(stored, entry.span) if shape.refers else stored.pieces(entry.span)
        async for piece in pieces:
            yield piece
    yield b"[]" if separator == b"[" else b"]"


async def _reference(stored: StoredJson, output: Span) -> AsyncIterator[bytes]:
    """Yield an output without the representations that are stored as files."""
    fields = await stored.fields(output[0])
    files = await _files(stored, fields["metadata"])
    comma = b"{"
    for name, span in fields.items():
        yield comma + encode(name) + b":"
        comma = b","
        async for piece in _data(stored, span, files) if name == "data" else stored.pieces(span):
            yield piece
    yield b"}"


async def _files(stored: StoredJson, metadata: Span) -> set[str | None]:
    """Return the media types whose metadata has a file id."""
    found: set[str | None] = set()
    async for member in stored.members(metadata[0]):
        if member.name is not None and await stored.byte(member.value[0]) == ord("{"):
            async for fact in stored.members(member.value[0]):
                if fact.name == "file_id":
                    found.add(member.name)
    return found


async def _data(stored: StoredJson, data: Span, left_out: set[str | None]) -> AsyncIterator[bytes]:
    """Yield the members of an object without those of some names."""
    separator = b"{"
    async for member in stored.members(data[0]):
        if member.name not in left_out:
            yield separator
            separator = b","
            async for piece in stored.pieces((member.key[0], member.value[1])):
                yield piece
    yield b"{}" if separator == b"{" else b"}"
