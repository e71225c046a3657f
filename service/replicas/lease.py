"""The lease of a replica, by which the others know that it is alive.

See docs/decisions/0014-sessions-held-by-leases.md.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, Self

from service.database.registries.records import ReplicaRecord
from service.database.registries.replica_registry import ReplicaRegistry
from service.replicas.errors import InstanceInUse
from sessions.errors import RegistryUnavailable

log = logging.getLogger(__name__)

_RENEWALS: Final = 3
"""Renewals in the time of one lease."""
_RETRY_SEC: Final = 0.5
"""Pause after a renewal that failed."""
_POLL_SEC: Final = 0.5


class ReplicaLease:
    """The row of this replica, renewed in the background. Use as `async with ReplicaLease(...)`.

    Leaving removes the row, which frees all sessions that this replica holds.
    """

    def __init__(self, registry: ReplicaRegistry, replica: ReplicaRecord, lease_sec: float) -> None:
        """Prepare a lease of `lease_sec` seconds.

        Args:
            replica: its ids last until this process ends, or until the lease is lost.
        """
        self.replica = replica
        self.lease_sec = lease_sec
        self._registry = registry
        self._on_lost: Callable[[], Awaitable[None]] = _do_nothing
        self._sure_until = 0.0
        self._steady_since = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        deadline = time.monotonic() + 2 * self.lease_sec + _POLL_SEC
        while not await self._join():
            if time.monotonic() > deadline:
                raise InstanceInUse(self.replica.instance_id)
            await asyncio.sleep(_POLL_SEC)
        self._task = asyncio.create_task(self._renew())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        with suppress(RegistryUnavailable):
            await self._registry.leave(self.replica.replica_id)

    @property
    def is_sure(self) -> bool:
        """Whether the lease is valid, so that no other replica can have taken this one's sessions."""
        return time.monotonic() < self._sure_until

    @property
    def is_steady(self) -> bool:
        """Whether renewals have succeeded for longer than the time of a lease."""
        return time.monotonic() > self._steady_since + self.lease_sec

    @property
    def renewal_sec(self) -> float:
        """Seconds between two renewals."""
        return self.lease_sec / _RENEWALS

    def call_when_lost(self, let_go: Callable[[], Awaitable[None]]) -> None:
        """Have `let_go` awaited when the other replicas have removed this one's row."""
        self._on_lost = let_go

    async def _join(self) -> bool:
        asked_at = time.monotonic()
        if not await self._registry.join(self.replica, self.lease_sec):
            return False
        self._renewed(asked_at)
        self._steady_since = asked_at
        return True

    def _renewed(self, asked_at: float) -> None:
        if not self.is_sure:
            self._steady_since = asked_at
        self._sure_until = asked_at + self.lease_sec

    async def _renew(self) -> None:
        while True:
            pause = self.renewal_sec
            try:
                asked_at = time.monotonic()
                if await self._registry.renew(self.replica.replica_id, self.lease_sec):
                    self._renewed(asked_at)
                else:
                    await self._join_again()
            except RegistryUnavailable as error:
                log.warning("the lease of this replica is not renewed: %s", error.reason)
                pause = min(pause, _RETRY_SEC)
            except Exception:
                log.exception("renewing the lease of this replica failed")
            await asyncio.sleep(pause)

    async def _join_again(self) -> None:
        """Release all sessions, because other replicas may hold them already, and join under a new id."""
        log.error("the other replicas took this one for dead: it lets go of its sessions and joins again")
        self._sure_until = 0.0
        await self._on_lost()
        self.replica = replace(self.replica, replica_id=uuid.uuid4().hex)
        await self._join()


async def _do_nothing() -> None:
    """Stand in for a callback until `call_when_lost` sets one."""
