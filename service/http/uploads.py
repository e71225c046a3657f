"""Reads the one file of a multipart body while it arrives, with only one chunk in memory."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from service.files.errors import InvalidFilename
from service.files.media_types import clean_media_type
from service.http.body_limit import declared_length
from sessions.errors import FileTooLarge

FIELD = "file"
UNNAMED = "unnamed"

# Room for the boundaries, headers and other fields of a body.
_ENVELOPE_BYTES = 256 * 1024

_MAX_PARTS = 100

# Maximum length of a file name on most file systems. Clients must be able to save a file under its name.
_MAX_NAME_BYTES = 255


@dataclass
class _Part:
    """The headers of one part of the body. A part without a filename is not a file."""

    name: str | None = None
    filename: str | None = None
    media_type: str | None = None


class Upload:
    """The part named ``file``. Its headers have been read, its content has not."""

    def __init__(self, filename: str, media_type: str | None, events: AsyncIterator[_Part | bytes]) -> None:
        self.filename = check_filename(filename)
        self.media_type = media_type
        self._events = events

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the content of the file, and read to the end of the body.

        Raises the errors of ``receive_upload``.
        """
        in_file = True
        async for event in self._events:
            if isinstance(event, _Part):
                in_file = False
                if event.name == FIELD:
                    raise _invalid("too_many_files", "Only one file can be sent at a time", FIELD)
            elif in_file:
                yield event


@asynccontextmanager
async def receive_upload(request: Request, max_bytes: int) -> AsyncIterator[Upload]:
    """Read a multipart request up to the content of its file, which the ``Upload`` then reads.

    Raises:
        FileTooLarge: the body is too large for a file of ``max_bytes``.
        InvalidFilename: the name of the file is invalid; see ``check_filename``.
        RequestValidationError: the body is not valid multipart with exactly one part named ``file``.
        ClientDisconnect: the client disconnected.
    """
    media_type, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if media_type != b"multipart/form-data" or not boundary:
        raise _missing_file()
    if declared_length(request.scope) > max_bytes + _ENVELOPE_BYTES:
        raise FileTooLarge(max_bytes)
    async with aclosing(_events(request, boundary, max_bytes)) as events:
        async for event in events:
            if isinstance(event, _Part) and event.name == FIELD:
                if event.filename is None:
                    raise _invalid("file_expected", "Expected a file with a filename", FIELD)
                yield Upload(event.filename or UNNAMED, event.media_type, events)
                return
    raise _missing_file()


def check_filename(name: str) -> str:
    """Return the name of a file unchanged, or raise ``InvalidFilename`` if it cannot be kept."""
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise InvalidFilename("has control characters")
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise InvalidFilename(f"is longer than {_MAX_NAME_BYTES} bytes")
    return name


async def _events(request: Request, boundary: bytes, max_bytes: int) -> AsyncGenerator[_Part | bytes, None]:
    """Yield each part when its headers are complete, and then the chunks of its content."""
    reader = _Reader(boundary)
    received = 0
    async with aclosing(request.stream()) as stream:
        async for chunk in stream:
            received += len(chunk)
            if received > max_bytes + _ENVELOPE_BYTES:
                raise FileTooLarge(max_bytes)
            for event in reader.feed(chunk):
                yield event
    if not reader.complete:
        raise _malformed("The body ends before its last boundary")


class _Reader:
    """Wraps the parser of python-multipart, and returns its callbacks as a list of events."""

    def __init__(self, boundary: bytes) -> None:
        self.complete = False
        self._parts = 0
        self._found: list[_Part | bytes] = []
        self._part = _Part()
        self._header_name = b""
        self._header_value = b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_content,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _malformed(str(error)) from error

    def feed(self, chunk: bytes) -> list[_Part | bytes]:
        """Parse the next chunk of the body, and return its events."""
        self._found = []
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed(str(error)) from error
        return self._found

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise _invalid("too_many_parts", f"The body has more than {_MAX_PARTS} parts")
        self._part = _Part()

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        header = self._header_name.lower()
        if header == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self._part.name = _text(options.get(b"name"))
            self._part.filename = _text(options.get(b"filename"))
        elif header == b"content-type":
            self._part.media_type = clean_media_type(_text(self._header_value))
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        self._found.append(self._part)

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        self._found.append(data[start:end])

    def _end(self) -> None:
        self.complete = True


def _text(raw: bytes | None) -> str | None:
    """Decode UTF-8, as most clients send it, or else Latin-1, which can decode any bytes."""
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _missing_file() -> RequestValidationError:
    return _invalid("missing", "Field required", FIELD)


def _malformed(reason: str) -> RequestValidationError:
    return _invalid("multipart_invalid", f"Invalid multipart data: {reason}")


def _invalid(kind: str, message: str, *where: str) -> RequestValidationError:
    """Return an error in the form of FastAPI's own validation errors."""
    problem: dict[str, Any] = {"type": kind, "loc": ("body", *where), "msg": message}
    return RequestValidationError([problem])
