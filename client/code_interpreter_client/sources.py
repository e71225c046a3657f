"""What is sent as a file: bytes, a file on disk, or one that is open."""

import io
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

Sendable = bytes | str | os.PathLike[str] | BinaryIO
"""Content, or the path of a file, or a file that is open for reading bytes; sent from where it stands."""

_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Source:
    """Content with a name, read anew for each attempt to send it."""

    content: bytes | Path | BinaryIO
    name: str
    start: int | None = None
    """Where an open file stands, if it can be wound back."""

    @classmethod
    def of(cls, given: Sendable, name: str | None = None) -> "Source":
        """From what a caller gives."""
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
        """Whether it can be read twice."""
        return isinstance(self.content, bytes | Path) or self.start is not None

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The content, from its beginning. Raises `OSError`: the file cannot be read."""
        if isinstance(self.content, bytes):
            yield io.BytesIO(self.content)
        elif isinstance(self.content, Path):
            with self.content.open("rb") as file:
                yield file
        else:
            yield cast(BinaryIO, _Rest(self.content, self.start))


class _Rest:
    """The rest of an open file, as if it began where the file stood: httpx winds back what it sends."""

    def __init__(self, file: BinaryIO, start: int | None) -> None:
        self._file = file
        self._start = start
        self.seek(0)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell() - self._known_start()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self._start is None:
            return 0
        here = self._file.seek(offset + (self._start if whence == io.SEEK_SET else 0), whence)
        return here - self._start

    def _known_start(self) -> int:
        if self._start is None:
            raise io.UnsupportedOperation("it cannot be wound back, so nobody knows how long it is")
        return self._start


def size_of(file: BinaryIO) -> int | None:
    """Bytes in the whole file; None if that is not known."""
    try:
        here = file.tell()
        size = file.seek(0, io.SEEK_END)
        file.seek(here)
    except OSError:
        return None
    return size


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """The rest of a file, piece by piece."""
    while data := file.read(_CHUNK_BYTES):
        yield data


async def async_chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    """As `chunks`, for httpx's asynchronous client. A disk is quick enough to be read in between."""
    for data in chunks(file):
        yield data
