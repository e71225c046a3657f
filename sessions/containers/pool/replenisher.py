"""Launches sandboxes whenever fewer are ready, or on their way, than are wanted."""

import asyncio
import logging
import time
from typing import Final

from sessions.containers.errors import ImageNotFound
from sessions.containers.launcher import Launcher
from sessions.containers.observer import PoolObserver, Removal
from sessions.containers.pool.backoff import Backoff
from sessions.containers.pool.demand import Demand
from sessions.containers.pool.image_follower import ImageFollower
from sessions.containers.pool.stock import Stock
from sessions.errors import SessionsError
from sessions.tasks import BackgroundTasks

log = logging.getLogger(__name__)

_LAUNCHES_AT_ONCE: Final = 2


class Replenisher:
    """`run` it in the background. It looks at the stock and the demand whenever the stock says it changed."""

    def __init__(
        self,
        stock: Stock,
        demand: Demand,
        launcher: Launcher,
        images: ImageFollower,
        backoff: Backoff,
        observer: PoolObserver,
        *,
        max_containers: int,
        reuse: bool,
    ) -> None:
        self._stock = stock
        self._demand = demand
        self._launcher = launcher
        self._images = images
        self._backoff = backoff
        self._observer = observer
        self._max_containers = max_containers
        self._reuse = reuse
        self._is_paused = False
        self._launches = BackgroundTasks()

    async def run(self) -> None:
        """Launch what is wanted, until cancelled. Launches under way are cancelled then."""
        try:
            while True:
                await self._stock.wait_for_change()
                while self._should_launch():
                    self._stock.starting += 1
                    self._launches.start(self._launch())
        finally:
            await self._launches.close()

    def _should_launch(self) -> bool:
        return (
            not self._is_paused
            and self._stock.starting < _LAUNCHES_AT_ONCE
            and self._is_short()
            and (self._stock.total < self._max_containers or self._make_room())
        )

    def _is_short(self) -> bool:
        """Whether more are wanted. Callers wait only while none of the ready sandboxes may serve them."""
        stock = self._stock
        waiting = len(stock.queue)
        return stock.starting < waiting or len(stock.ready) + stock.starting < self._demand.target + waiting

    def _make_room(self) -> bool:
        """Discard a ready container of one tenant while callers of others wait; False if there is none."""
        if not self._stock.queue or not self._stock.ready:
            return False
        self._stock.discard(self._stock.ready[0], Removal.GAVE_WAY)
        return True

    def _is_hurried(self) -> bool:
        """Whether a caller waits for the very next kernel, which will serve no other call."""
        return bool(self._stock.queue) and not self._reuse

    async def _launch(self) -> None:
        began = time.monotonic()
        try:
            try:
                sandbox = await self._launcher.launch(self._is_hurried)
            finally:
                self._stock.starting -= 1
        except Exception as error:
            self._observer.launch_failed()
            await self._pause_after(error)
        else:
            self._backoff.succeeded()
            self._demand.launched(time.monotonic() - began)
            if self._launcher.is_current(sandbox):
                self._stock.offer(sandbox)
            else:
                self._stock.discard(sandbox, Removal.OUTDATED)
        self._stock.changed()

    async def _pause_after(self, error: Exception) -> None:
        """Launch nothing for a while, then prepare the engine anew and look for another image."""
        if isinstance(error, ImageNotFound):
            error = self._launcher.image_is_missing()  # the engine gives the image's id only
        else:
            self._backoff.problem = str(error)
        pause = self._backoff.failed()
        log.error("a launch failed, next try in %g s: %s", pause, error)
        self._is_paused = True
        try:
            await asyncio.sleep(pause)
            # The network may have been removed, and the image may have been replaced.
            await self._launcher.prepare()
            await self._images.check()
        except SessionsError as still:
            self._backoff.problem = str(still)
        finally:
            self._is_paused = False
