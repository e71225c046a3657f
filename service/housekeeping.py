"""Work that comes round again and again while the service runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import astuple
from typing import Final

from service import clock
from service.artifacts import FileStore
from service.registry import Registry

log = logging.getLogger(__name__)

_INTERVAL_SEC: Final = 60.0
_HISTORY_SEC: Final = 30 * 24 * 3600


async def keep_house(files: FileStore, registry: Registry) -> None:
    """Remove expired files and old rows, now and every minute, until cancelled."""

    async def tidy() -> None:
        swept = await files.sweep(clock.now())
        if any(astuple(swept)):
            log.info("swept files: %s", swept)
        await registry.prune(clock.now() - _HISTORY_SEC)

    await repeat(tidy, "tidying up files and registry", _INTERVAL_SEC)


async def repeat(work: Callable[[], Awaitable[object]], what: str, interval_sec: float) -> None:
    """Do `work` now and every `interval_sec` seconds, until cancelled. Errors are logged."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed; trying again in %g s", what, interval_sec)
        await asyncio.sleep(interval_sec)
