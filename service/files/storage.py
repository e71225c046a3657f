"""The interface of a storage, which holds the bytes of stored files: a folder or an object storage.

A file is written as a draft, published under its id, never changed, and removed at last. A storage raises
`StorageFull` if it is full, and `StorageFailed` for its other failures.
"""

import re
from collections.abc import AsyncIterator, Collection
from typing import Final, Protocol

FILE_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
"""The id of a file: a version 4 UUID in its canonical lower-case form."""


class Draft(Protocol):
    """A file that is being stored."""

    @property
    def size_bytes(self) -> int:
        """The number of bytes written so far."""

    @property
    def sha256(self) -> str:
        """The digest of the bytes written so far, in lower-case hexadecimal."""

    @property
    def ends_sha256(self) -> str | None:
        """The digest of the first and the last block; None for a small file."""

    async def write(self, block: list[bytes]) -> None:
        """Append the pieces."""

    async def publish(self, rest: list[bytes]) -> None:
        """Append the rest, and publish the complete file durably."""

    def discard(self) -> None:
        """Remove the file, published or not, without waiting: a cancelled task calls this."""


class Content(Protocol):
    """A file that is open for reading."""

    @property
    def size_bytes(self) -> int:
        """The size of the file when it was opened."""

    def chunks(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` up to, not including, ``end``."""

    def close(self) -> None:
        """Close the file; a second call does nothing."""


class Storage(Protocol):
    """Holds the bytes of files by the files' ids."""

    @property
    def place(self) -> str:
        """The folder or URL, without secrets, for messages to the operator."""

    @property
    def listing_sec(self) -> float:
        """Seconds to leave between two listings of all files, which may be expensive."""

    @property
    def gives_links(self) -> bool:
        """Whether callers download from the storage itself, by ``link``."""

    async def prepare(self) -> None:
        """Check that files can be stored. Raises a ``StartError`` if they cannot."""

    async def claim(self, registry_id: str) -> None:
        """Mark the storage as this registry's. Raises a ``StartError`` if it belongs to another one."""

    async def any(self) -> bool:
        """Return whether any file is stored. Raises a ``StartError`` if the storage cannot be read."""

    def draft(self, file_id: str, filename: str) -> Draft:
        """Return a new draft. Nothing is stored before the first write."""

    async def open(self, file_id: str) -> Content:
        """Open a file. Raises ``FileNotFoundError``, or ``FileDamaged`` if it is not a regular file."""

    async def link(self, file_id: str) -> str:
        """Return a URL from which a file can be downloaded for a limited time."""

    async def remove(self, file_ids: Collection[str]) -> None:
        """Remove files. Missing files are ignored, and failures are logged."""

    async def dates(self) -> dict[str, float]:
        """Return the id of every file, and when it was written in seconds since the epoch."""

    async def remove_unfinished(self, before: float, being_saved: Collection[str]) -> int:
        """Remove drafts older than ``before``, left by a process that died; return their number."""

    async def close(self) -> None:
        """Finish the work that is under way, and close the storage."""
