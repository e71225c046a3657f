"""How many bytes of files each key may store."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from sessions.errors import StorageQuotaExceeded

FILE_OVERHEAD_BYTES: Final = 4096
"""What a file counts besides its bytes: many empty ones fill a disk, too."""


class StorageQuota:
    """How many bytes of files each owner has stored, or is storing."""

    def __init__(self, limit_bytes: int = 0) -> None:
        self._limit_bytes = limit_bytes
        self._used: Counter[str] = Counter()
        self._being_stored: Counter[str] = Counter()

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return self._limit_bytes > 0

    def load_one(self, owner: str, files: int, size: int) -> None:
        """What an owner has stored by now, on whichever replica; what is being stored here comes on top."""
        self._used[owner] = size + files * FILE_OVERHEAD_BYTES + self._being_stored[owner]

    def load(self, stored: Mapping[str, tuple[int, int]]) -> None:
        """Begin with what is there: number of files and their bytes, by owner."""
        self._used = Counter(
            {owner: size + files * FILE_OVERHEAD_BYTES for owner, (files, size) in stored.items()}
        )

    @contextmanager
    def new_file(self, owner: str) -> Iterator[Callable[[int], None]]:
        """Count a file while it is stored: the block says how many bytes it is about to add.

        What a block that fails has added is given back. Raises ``StorageQuotaExceeded``, and so does
        the function that is given.
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
        """A file is gone."""
        self._used[owner] -= size_bytes + FILE_OVERHEAD_BYTES
