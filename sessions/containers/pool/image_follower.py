"""Changes the pool to another image once the image's name stands for that."""

import asyncio
import logging
from typing import Final

from sessions.containers.engine_facts import Image
from sessions.containers.launcher import Launcher
from sessions.containers.observer import Removal
from sessions.containers.pool.backoff import Backoff
from sessions.containers.pool.stock import Stock

log = logging.getLogger(__name__)

_INTERVAL_SEC: Final = 5.0


class ImageFollower:
    """`run` it in the background."""

    def __init__(self, stock: Stock, launcher: Launcher, backoff: Backoff, *, max_containers: int) -> None:
        self._stock = stock
        self._launcher = launcher
        self._backoff = backoff
        self._max_containers = max_containers
        self._changing = asyncio.Lock()

    async def run(self) -> None:
        """Check the image again and again, until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_SEC)
            try:
                await self.check()
                self._stock.changed()
            except Exception as error:
                log.warning("checking the kernel image failed: %s", error)

    async def check(self) -> None:
        """Change to another image if the name stands for another one now.

        Raises:
            EngineUnavailable: the engine does not answer.
        """
        async with self._changing:
            image = await self._launcher.find_new_image()
            if image is not None:
                await self._change_to(image)

    async def _change_to(self, image: Image) -> None:
        """Launch from another image, if its first kernel passes the self-test. Sessions stay as they are."""
        if self._stock.total >= self._max_containers:
            if not self._stock.ready:
                return  # the next check tries again
            self._stock.discard(self._stock.ready[0], Removal.OUTDATED)
        self._stock.starting += 1
        try:
            first = await self._launcher.change_to(image)
        finally:
            self._stock.starting -= 1
        if first is None:
            return
        self._backoff.succeeded()
        self._stock.offer(first)
        for sandbox in list(self._stock.ready):
            if not self._launcher.is_current(sandbox):
                self._stock.discard(sandbox, Removal.OUTDATED)
