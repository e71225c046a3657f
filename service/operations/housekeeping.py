"""Periodic work while the service runs: deletes expired files and old rows."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import astuple
from typing import Final

from service.database.database import Database
from service.database.installation import prune
from service.files.store import FileStore
from sessions import clock

log = logging.getLogger(__name__)

IsMyTurn = Callable[[str, float], Awaitable[bool]]
"""Function of the name of a task and an interval in seconds. Returns True for one replica per interval."""

_INTERVAL_SEC: Final = 60.0
_PRUNE_SEC: Final = 3600.0
_HISTORY_SEC: Final = 30 * 24 * 3600


async def keep_house(files: FileStore, database: Database, is_my_turn: IsMyTurn) -> None:
    """Remove expired files every minute and old rows every hour, until cancelled.

    Args:
        files: the store with the files.
        database: the registry with the rows.
        is_my_turn: returns True for one of the replicas in each interval. That replica does the work.
    """
    listed_at = pruned_at = -math.inf

    async def tidy() -> None:
        nonlocal listed_at, pruned_at
        if files.is_shared:
            await files.count_stored()
        if not await is_my_turn("tidying up", _INTERVAL_SEC * 0.9):
            return
        thorough = time.monotonic() >= listed_at + files.storage.listing_sec
        if thorough:
            listed_at = time.monotonic()
        swept = await files.sweep(clock.now(), thorough=thorough)
        if any(astuple(swept)):
            log.info("swept files: %s", swept)
        if time.monotonic() >= pruned_at + _PRUNE_SEC:
            pruned_at = time.monotonic()
            await prune(database, clock.now() - _HISTORY_SEC)

    await repeat(tidy, "tidying up files and registry", _INTERVAL_SEC)


async def repeat(work: Callable[[], Awaitable[object]], what: str, interval_sec: float) -> None:
    """Call `work` now and every `interval_sec` seconds, until cancelled. Log its errors, with `what`."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed; trying again in %g s", what, interval_sec)
        await asyncio.sleep(interval_sec)
