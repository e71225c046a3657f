"""A service that is one of several replicas, which share a registry and divide the sessions among them.

See docs/decisions/0014-sessions-held-by-leases.md.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from service.database.registries.replica_registry import ReplicaRegistry
from service.database.registries.session_registry import SessionRegistry
from service.replicas.lease import ReplicaLease
from sessions import clock
from sessions.errors import SessionElsewhere, SessionMoving
from sessions.records import OpenSessionRecord, SessionEnd, SessionRecord

log = logging.getLogger(__name__)

_ROUND_SEC: Final = 1.0
"""Pause between two searches for sessions that no replica holds."""
_TAKEN_PER_ROUND: Final = 4
"""Most sessions that one round takes, so that a dead replica's sessions are spread over the others."""
_TRIES: Final = 3


class LeasedReplica:
    """`sessions.ports.Replicas`: holds sessions as long as its lease is valid."""

    def __init__(
        self,
        lease: ReplicaLease,
        registry: ReplicaRegistry,
        session_registry: SessionRegistry,
        session_lease_sec: float,
    ) -> None:
        """Hold sessions by `lease`.

        Args:
            session_lease_sec: seconds after which a container that no replica holds has ended.
        """
        self._lease = lease
        self._registry = registry
        self._session_registry = session_registry
        self._session_lease_sec = session_lease_sec

    @property
    def holder(self) -> str:
        """The id of this replica, until its lease is lost."""
        return self._lease.replica.replica_id

    @property
    def is_sure(self) -> bool:
        return self._lease.is_sure

    def call_when_lost(self, let_go: Callable[[], Awaitable[None]]) -> None:
        self._lease.call_when_lost(let_go)

    async def sessions_at_start(self) -> list[SessionRecord]:
        """Return no session: `rounds` takes the free ones while calls are answered."""
        return []

    async def rounds(self) -> AsyncIterator[list[SessionRecord]]:
        while True:
            taken: list[SessionRecord] = []
            try:
                taken = await self._take()
                await self._end_overdue()
            except Exception as error:
                log.warning("searching for sessions that no replica holds failed: %s", error)
            yield taken
            await asyncio.sleep(_ROUND_SEC)

    async def find(self, session_id: str, owner: str) -> SessionRecord | None:
        for _ in range(_TRIES):
            found = await self._registry.holder_of(session_id, owner)
            if found is None:
                return None
            holder, url = found
            if holder == self.holder:
                raise SessionMoving(session_id)
            if holder is not None:
                raise SessionElsewhere(session_id, url) if url else SessionMoving(session_id)
            if not self.is_sure:
                break
            taken = await self._registry.take(self._lease.replica, 1, session_id)
            if taken:
                return taken[0]
        raise SessionMoving(session_id)

    async def require_here(self, session_id: str, owner: str) -> None:
        found = await self._registry.holder_of(session_id, owner)
        if found is not None and found[1] and found[0] != self.holder:
            raise SessionElsewhere(session_id, found[1])

    async def open_sessions(self, owner: str) -> list[OpenSessionRecord]:
        return await self._session_registry.open_sessions(owner)

    async def count_sessions(self, owner: str) -> int:
        return await self._registry.count_sessions(owner)

    async def add_session(self, session: SessionRecord, limit: int) -> bool:
        return await self._registry.add_session(session, limit)

    async def kept_containers(self) -> list[str]:
        """Return the ids of the containers that the pool must not remove at the start."""
        return await self._registry.kept_containers()

    async def is_my_turn(self, what: str, interval_sec: float) -> bool:
        """Return whether this replica is to do work that one of them does every `interval_sec` seconds."""
        return await self._registry.turn(what, interval_sec)

    async def url_of(self, replica_id: str) -> str | None:
        """Return the URL of another replica; None if it is gone."""
        return await self._registry.url_of(replica_id)

    async def _take(self) -> list[SessionRecord]:
        """Take some sessions that no replica holds."""
        if not self.is_sure:
            return []
        # After an outage of the database all leases have run out. Replicas that are alive renew theirs first.
        if self._lease.is_steady:
            expired = await self._registry.remove_expired(self._lease.renewal_sec)
            if expired:
                log.warning("%d replicas are gone; the others take their sessions", expired)
        return await self._registry.take(self._lease.replica, _TAKEN_PER_ROUND)

    async def _end_overdue(self) -> None:
        """End the sessions that no replica will take: the expired ones, and those without a container."""
        if not self.is_sure:
            return
        expired, lost = await self._registry.overdue(self._session_lease_sec)
        await self._end(expired, "expired")
        await self._end(lost, "lost")

    async def _end(self, session_ids: list[str], reason: SessionEnd) -> None:
        for session_id in session_ids:
            await self._session_registry.end_session(session_id, reason, clock.now())
