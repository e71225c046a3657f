"""Keeps the pool's containers alive, and finds those that are dead, unknown or not needed."""

import asyncio
import logging
from typing import Final

from sessions.containers.launcher import Launcher
from sessions.containers.observer import Removal
from sessions.containers.pool.demand import Demand
from sessions.containers.pool.stock import Stock
from sessions.containers.remover import Remover
from sessions.containers.sandbox import Sandbox
from sessions.errors import SessionsError, log_text

log = logging.getLogger(__name__)

_MAX_INTERVAL_SEC: Final = 5.0
_ANSWER_SEC: Final = 5.0
_SURPLUS_SEC: Final = 30.0
"""Seconds for which a surplus sandbox stays ready."""


class Upkeep:
    """`run` it in the background. The leases of sessions' containers are renewed by the sessions."""

    def __init__(
        self, stock: Stock, demand: Demand, launcher: Launcher, remover: Remover, lease_sec: float
    ) -> None:
        self._stock = stock
        self._demand = demand
        self._launcher = launcher
        self._remover = remover
        self._lease_sec = lease_sec
        self._suspects: set[str] = set()
        """Ids of running containers that were unknown at the last look."""

    async def run(self) -> None:
        """Look after the containers again and again, until cancelled."""
        while True:
            await asyncio.sleep(min(_MAX_INTERVAL_SEC, self._lease_sec / 4))
            self._discard_surplus()
            busy = (self._renew_lease(sandbox) for sandbox in self._stock.busy)
            await asyncio.gather(self.discard_dead(), *busy)
            try:
                await self._remove_orphans()
            except Exception as error:
                log.warning("looking for containers without an owner failed: %s", error)

    def _discard_surplus(self) -> None:
        """Discard sandboxes that have waited unused while too many were ready.

        If nobody waits, discard one that has imported fewer modules than new ones as well.
        """
        for sandbox in list(self._stock.ready):
            too_many = len(self._stock.ready) > self._demand.target and sandbox.idle_sec > _SURPLUS_SEC
            if too_many:
                self._stock.discard(sandbox, Removal.SURPLUS)
        incomplete = [sandbox for sandbox in self._stock.ready if not self._launcher.is_complete(sandbox)]
        if incomplete and not self._stock.queue:
            self._stock.discard(incomplete[0], Removal.SURPLUS)

    async def discard_dead(self) -> None:
        """Renew the lease of every ready sandbox, and replace those that do not answer."""
        ready = list(self._stock.ready)
        answers = await asyncio.gather(*(self._renew_lease(sandbox) for sandbox in ready))
        for sandbox, answered in zip(ready, answers, strict=True):
            if not answered and sandbox in self._stock.ready:
                self._stock.discard(sandbox, Removal.LOST)

    async def _renew_lease(self, sandbox: Sandbox) -> bool:
        """Renew the lease of a container; False if it does not answer."""
        try:
            async with asyncio.timeout(_ANSWER_SEC):
                await sandbox.renew_lease(self._lease_sec)
        except (SessionsError, TimeoutError) as error:
            log.warning("container %s is lost: %s", sandbox.connection.container.name, log_text(error))
            return False
        return True

    async def _remove_orphans(self) -> None:
        """Remove containers with this instance's label that were unknown at two looks in a row."""
        if self._stock.starting:
            return
        unknown = await self._remover.running() - self._stock.known_ids
        for container_id in unknown & self._suspects:
            log.warning("container %s has no owner and is removed", container_id)
            await self._remover.remove(container_id, Removal.LEFTOVER)
        self._suspects = unknown
