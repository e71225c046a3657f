"""Content to send: bytes, a file on disk, or an open file."""

import io
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

Sendable = bytes | str | os.PathLike[str] | BinaryIO
"""Content, the path of a file, or a file open for reading bytes. An open file is sent from its position."""

_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Source:
    """Content with a name. It is read anew for each attempt to send it."""

    content: bytes | Path | BinaryIO
    name: str
    start: int | None = None
    """The position of an open file; None if the file is not seekable."""

    @classmethod
    def of(cls, given: Sendable, name: str | None = None) -> "Source":
        """Make a source of what a caller passes. Without `name` it gets the file's name."""
        if isinstance(given, bytes | bytearray | memoryview):
            return cls(bytes(given), name or "upload.bin")
        if isinstance(given, str | os.PathLike):
            path = Path(given)
            return cls(path, name or path.name)
        own = getattr(given, "name", None)
        start = given.tell() if given.seekable() else None
        return cls(given, name or (Path(own).name if isinstance(own, str) else "upload.bin"), start)

    @property
    def repeatable(self) -> bool:
        """Whether the source can be read more than once."""
        return isinstance(self.content, bytes | Path) or self.start is not None

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the content at its beginning. Raises `OSError` if the file cannot be read."""
        if isinstance(self.content, bytes):
            yield io.BytesIO(self.content)
        elif isinstance(self.content, Path):
            with self.content.open("rb") as file:
                yield file
        else:
            yield cast(BinaryIO, _Rest(self.content, self.start))


class _Rest:
    """The rest of an open file, as a file whose position 0 is `start`. httpx seeks to 0 before it sends."""

    def __init__(self, file: BinaryIO, start: int | None) -> None:
        self._file = file
        self._start = start
        self.seek(0)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def tell(self) -> int:
        if self._start is None:
            raise io.UnsupportedOperation("the file is not seekable, so its length is unknown")
        return self._file.tell() - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self._start is None:
            return 0
        here = self._file.seek(offset + (self._start if whence == io.SEEK_SET else 0), whence)
        return here - self._start


def size_of(file: BinaryIO) -> int | None:
    """Return the size of a file in bytes, or None if it is unknown."""
    try:
        here = file.tell()
        size = file.seek(0, io.SEEK_END)
        file.seek(here)
    except OSError:
        return None
    return size


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """Read the rest of a file in chunks."""
    while data := file.read(_CHUNK_BYTES):
        yield data


async def async_chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    """Do the same for httpx's asynchronous client. A read of one chunk blocks the event loop only briefly."""
    for data in chunks(file):
        yield data
