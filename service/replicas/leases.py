"""This service among others that share its registry: its lease, and the sessions that it holds or finds.

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

from service.database.records import ReplicaRecord
from service.database.replica_registry import ReplicaRegistry
from service.replicas.errors import InstanceInUse
from sessions.errors import RegistryUnavailable, SessionElsewhere, SessionMoving
from sessions.records import SessionEnd, SessionRecord

log = logging.getLogger(__name__)

_RENEWALS: Final = 3
"""In the time of a lease."""
_AGAIN_SEC: Final = 0.5
"""After a renewal that failed."""
_POLL_SEC: Final = 0.5
_TAKEN_AT_ONCE: Final = 4
"""Sessions that are taken in one round: what a dead replica leaves is spread over the others."""
_TRIES: Final = 3


class Replicas:
    """Use as `async with Replicas(...)`; leaving frees all sessions that are held."""

    def __init__(self, registry: ReplicaRegistry, replica: ReplicaRecord, lease_sec: float) -> None:
        """The ids of `replica` last for one life of the service."""
        self.registry = registry
        self.replica = replica
        self.on_lost: Callable[[], Awaitable[None]] = _nothing
        """Called when sessions that were held are others' by now."""
        self._lease_sec = lease_sec
        self._sure_until = 0.0
        self._steady_since = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        deadline = time.monotonic() + 2 * self._lease_sec + _POLL_SEC
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
            await self.registry.leave(self.replica.replica_id)

    @property
    def is_sure(self) -> bool:
        """Whether nobody else can have taken what this replica holds."""
        return time.monotonic() < self._sure_until

    # --- the lease --------------------------------------------------------------------------------

    async def _join(self) -> bool:
        asked_at = time.monotonic()
        if not await self.registry.join(self.replica, self._lease_sec):
            return False
        self._renewed(asked_at)
        self._steady_since = asked_at
        return True

    def _renewed(self, asked_at: float) -> None:
        if not self.is_sure:
            self._steady_since = asked_at
        self._sure_until = asked_at + self._lease_sec

    async def _renew(self) -> None:
        while True:
            pause = self._lease_sec / _RENEWALS
            try:
                asked_at = time.monotonic()
                if await self.registry.renew(self.replica.replica_id, self._lease_sec):
                    self._renewed(asked_at)
                else:
                    await self._begin_anew()
            except RegistryUnavailable as error:
                log.warning("the lease of this replica is not renewed: %s", error.reason)
                pause = min(pause, _AGAIN_SEC)
            except Exception:
                log.exception("renewing the lease of this replica failed")
            await asyncio.sleep(pause)

    async def _begin_anew(self) -> None:
        """Others have taken this replica for dead."""
        log.error("this replica was taken for dead: it lets go of its sessions and begins anew")
        self._sure_until = 0.0
        await self.on_lost()
        self.replica = replace(self.replica, replica_id=uuid.uuid4().hex)
        await self._join()

    # --- sessions ---------------------------------------------------------------------------------

    async def take(self, most: int = _TAKEN_AT_ONCE) -> list[SessionRecord]:
        """Hold some sessions that nobody holds any more."""
        if not self.is_sure:
            return []
        # After a time without the database all leases have run out; who is alive has its chance first.
        if time.monotonic() > self._steady_since + self._lease_sec:
            buried = await self.registry.bury(self._lease_sec / _RENEWALS)
            if buried:
                log.warning("%d replicas are gone; their sessions are taken by the others", buried)
        return await self.registry.take(self.replica, most)

    async def find(self, session_id: str, owner: str) -> SessionRecord | None:
        """Hold an owner's session that is not held here, if it is free; None if there is none that lives.

        Raises:
            SessionElsewhere: another replica holds it.
            SessionMoving: it is being taken, or can be reached by none at the moment.
        """
        for _ in range(_TRIES):
            found = await self.registry.holder_of(session_id, owner)
            if found is None:
                return None
            holder, url = found
            if holder == self.replica.replica_id:
                raise SessionMoving(session_id)
            if holder is not None:
                raise SessionElsewhere(session_id, url) if url else SessionMoving(session_id)
            if not self.is_sure:
                break
            taken = await self.registry.take(self.replica, 1, session_id)
            if taken:
                return taken[0]
        raise SessionMoving(session_id)

    async def overdue(self, session_lease_sec: float) -> dict[SessionEnd, list[str]]:
        """Sessions that nobody holds and nobody will: by how they ended."""
        if not self.is_sure:
            return {}
        expired, lost = await self.registry.overdue(session_lease_sec)
        return {"expired": expired, "lost": lost}

    async def look(self, session_id: str, owner: str) -> None:
        """Raise `SessionElsewhere` if another replica holds an owner's session."""
        found = await self.registry.holder_of(session_id, owner)
        if found is not None and found[1] and found[0] != self.replica.replica_id:
            raise SessionElsewhere(session_id, found[1])


async def _nothing() -> None:
    """Where nothing is held."""
