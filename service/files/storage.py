"""Where the bytes of stored files are: the seam that a disk and an object storage stand behind.

A file is written as a draft, published under its id, never changed, and removed. What a storage raises is
`StorageFull` where it takes no more, and `StorageFailed` for its other failures.
"""

import re
from collections.abc import AsyncIterator, Collection
from typing import Final, Protocol

FILE_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
"""What a file's bytes are stored as: a version 4 UUID in its canonical lower-case form."""


class Draft(Protocol):
    """A file on its way in."""

    @property
    def size_bytes(self) -> int:
        """Of all bytes written so far."""

    @property
    def sha256(self) -> str:
        """Of all bytes written so far, in lower-case hexadecimal."""

    async def write(self, block: list[bytes]) -> None:
        """Append the pieces of a block."""

    async def publish(self, rest: list[bytes]) -> None:
        """Append the rest, and make the file appear whole and for good."""

    def discard(self) -> None:
        """Leave nothing of it, published or not. Never waits: who is cancelled could not."""


class Content(Protocol):
    """The bytes of a file, open for reading."""

    def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from ``start`` up to, not including, ``end``."""

    def close(self) -> None:
        """Let go of it; a second call does nothing."""


class Storage(Protocol):
    """Bytes by the ids of their files."""

    @property
    def place(self) -> str:
        """What an operator calls it: a folder or a URL, without secrets."""

    @property
    def listing_sec(self) -> float:
        """How much time to leave between two listings of all files, which may cost."""

    @property
    def gives_links(self) -> bool:
        """Whether callers download from it themselves, by ``link``."""

    async def prepare(self) -> None:
        """See to it that files can be stored. Raises a ``StartError`` if they cannot."""

    async def claim(self, registry_id: str) -> None:
        """See to it that no other registry's service works here. Raises a ``StartError`` if one does."""

    async def any(self) -> bool:
        """Whether any file is stored. Raises a ``StartError`` if that cannot be found out."""

    def draft(self, file_id: str, filename: str) -> Draft:
        """Begin a file; nothing is stored before the first write."""

    async def open(self, file_id: str) -> Content:
        """Open a file. Raises ``FileNotFoundError`` if it is not there."""

    async def link(self, file_id: str) -> str:
        """A URL to download a file from, for a while."""

    async def remove(self, file_ids: Collection[str]) -> None:
        """Remove files; those that are gone already are fine, and what fails is logged."""

    async def dates(self) -> dict[str, float]:
        """Every file with when it was written, in seconds since the epoch."""

    async def remove_unfinished(self, before: float, being_saved: Collection[str]) -> int:
        """Remove drafts that are older than ``before``, left by a process that died; how many."""

    async def close(self) -> None:
        """Let go of it; what it is doing is finished first."""
