"""What one key may use: requests a minute, executions at once, stored bytes. A limit of 0 is none."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from service.errors import StorageQuotaExceeded, TooManyExecutions, TooManyRequests

_MINUTE: Final = 60.0

FILE_OVERHEAD_BYTES: Final = 4096
"""What a file counts besides its bytes: many empty ones fill a disk, too."""


@dataclass(frozen=True)
class KeyLimits:
    """The limits of each key; 0 is none."""

    requests_per_minute: int = 0
    executions: int = 0
    sessions: int = 0
    storage_bytes: int = 0


class RequestRate:
    """So many requests at once, and then as many a minute, evenly."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._whole_at: dict[str, float] = {}
        """When an owner that is quiet until then may ask as often as ever."""

    def count(self, owner: str) -> None:
        """Count a request. Raises ``TooManyRequests``, and then it does not count."""
        if not self._per_minute:
            return
        now = time.monotonic()
        whole_at = max(now, self._whole_at.get(owner, 0.0)) + _MINUTE / self._per_minute
        if whole_at > now + _MINUTE:
            raise TooManyRequests(self._per_minute, whole_at - now - _MINUTE)
        self._whole_at[owner] = whole_at


class Executions:
    """How many executions of each owner run, or wait for a kernel or their turn."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: Counter[str] = Counter()

    @contextmanager
    def one_of(self, owner: str, *, runs_already: bool = False) -> Iterator[None]:
        """Count one for as long as the block. Raises ``TooManyExecutions``, unless it runs already."""
        if self._limit and not runs_already and self._running[owner] >= self._limit:
            raise TooManyExecutions(self._limit)
        self._running[owner] += 1
        try:
            yield
        finally:
            self._running[owner] -= 1


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
