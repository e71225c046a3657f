"""Conditional and partial downloads of stored files, as RFC 9110 defines them."""

import re

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.files.store import OpenFile
from service.http.errors import RangeNotSatisfiable

_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.ASCII | re.IGNORECASE)


def matches(condition: str | None, etag: str) -> bool:
    """Return whether the list of entity tags in an ``If-None-Match`` header has ``etag``."""
    tags = (condition or "").split(",")
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in tags)


def parse_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """Return the ``[start, end)`` that a ``Range`` header asks for; None for the whole file.

    A header that is malformed or asks for several ranges is ignored, as the standard allows.

    Raises:
        RangeNotSatisfiable: no byte of the file is in the range.
    """
    found = _ONE_RANGE.fullmatch(header or "")
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size_bytes - int(last)), size_bytes
    else:
        start, end = int(first), min(int(last) + 1, size_bytes) if last else size_bytes
        if last and int(last) < start:
            return None
    if start >= end:
        raise RangeNotSatisfiable(size_bytes)
    return start, end


class FileResponse(StreamingResponse):
    """Sends the bytes ``[start, end)`` of an open file, and closes the file afterwards in any case."""

    def __init__(
        self, file: OpenFile, start: int, end: int, status_code: int, headers: dict[str, str]
    ) -> None:
        super().__init__(file.chunks(start, end), status_code, headers)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()
