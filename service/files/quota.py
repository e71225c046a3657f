"""The limit on the total size of an owner's stored files."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from sessions.errors import StorageQuotaExceeded

FILE_OVERHEAD_BYTES: Final = 4096
"""Bytes that a file counts in addition to its content, because many empty files fill a disk as well."""


class StorageQuota:
    """The bytes that each owner has stored or is storing, and the limit on them (0: no limit)."""

    def __init__(self, limit_bytes: int = 0) -> None:
        self._limit_bytes = limit_bytes
        self._used: Counter[str] = Counter()
        self._being_stored: Counter[str] = Counter()

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return self._limit_bytes > 0

    def load_one(self, owner: str, files: int, size: int) -> None:
        """Set what an owner has stored on all replicas. Files that are being stored here are added to it."""
        self._used[owner] = size + files * FILE_OVERHEAD_BYTES + self._being_stored[owner]

    def load(self, stored: Mapping[str, tuple[int, int]]) -> None:
        """Set what all owners have stored: the number of files and their total size in bytes."""
        self._used = Counter(
            {owner: size + files * FILE_OVERHEAD_BYTES for owner, (files, size) in stored.items()}
        )

    @contextmanager
    def new_file(self, owner: str) -> Iterator[Callable[[int], None]]:
        """Count a file while the block stores it. The block calls its function before it adds bytes.

        An error in the block takes the bytes off again.

        Raises:
            StorageQuotaExceeded: the owner is at the limit. The function raises it as well.
        """
        added = 0

        def add(size: int) -> None:
            nonlocal added
            if self._limit_bytes and self._used[owner] + size > self._limit_bytes:
                raise StorageQuotaExceeded(self._limit_bytes)
            self._used[owner] += size
            self._being_stored[owner] += size
            added += size

        try:
            add(FILE_OVERHEAD_BYTES)
            yield add
        except BaseException:
            self._used[owner] -= added
            raise
        finally:
            self._being_stored[owner] -= added

    def forget(self, owner: str, size_bytes: int) -> None:
        """Take a deleted file off."""
        self._used[owner] -= size_bytes + FILE_OVERHEAD_BYTES
