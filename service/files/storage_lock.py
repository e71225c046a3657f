"""Locks a folder and a registry for one service. Two would delete each other's files as leftovers."""

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from service.errors import StartError
from service.files.errors import StorageUnavailable

log = logging.getLogger(__name__)

_WAIT_SEC: Final = 20.0
"""How long a service that is stopping may still hold it."""
_POLL_SEC: Final = 0.2


@asynccontextmanager
async def lock(path: Path, in_use: StartError, wait_sec: float = _WAIT_SEC) -> AsyncIterator[None]:
    """Hold a lock file until the block ends. Raises ``in_use`` if another service holds it after the wait."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageUnavailable(path.parent, error.strerror or str(error)) from error
    try:
        deadline = asyncio.get_running_loop().time() + wait_sec
        reported = False
        while not _taken(descriptor):
            if not reported:
                log.warning("%s Waiting up to %.0f s for it to stop.", in_use, wait_sec)
                reported = True
            if asyncio.get_running_loop().time() > deadline:
                raise in_use
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
