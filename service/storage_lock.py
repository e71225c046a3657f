"""One service at a time on a storage folder: two would take each other's containers for leftovers."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from service.errors import StorageInUse

_WAIT_SEC: Final = 20.0
"""How long a service that is stopping may still hold it."""
_POLL_SEC: Final = 0.2


@asynccontextmanager
async def storage_lock(folder: Path) -> AsyncIterator[None]:
    """Hold the folder, which exists, until the block ends. Raises ``StorageInUse``."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = asyncio.get_running_loop().time() + _WAIT_SEC
        while not _taken(descriptor):
            if asyncio.get_running_loop().time() > deadline:
                raise StorageInUse(folder)
            await asyncio.sleep(_POLL_SEC)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
