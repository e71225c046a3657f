"""Ends sessions whose time is over, and renews the leases of their containers."""

import asyncio
import contextlib
import logging
import time
from typing import Final

from sessions import clock
from sessions.containers.pool.pool import Pool
from sessions.errors import SessionsError, log_text
from sessions.kernels.errors import SupervisorFailed
from sessions.manager.open_sessions import OpenSessions
from sessions.ports import Replicas
from sessions.session.services import SessionSettings
from sessions.session.session import Session

log = logging.getLogger(__name__)

_CLOCK_SEC: Final = 0.5
"""Pause between two checks of the clock: so late a session may end."""
_RENEW_SEC: Final = 5.0
_ANSWER_SEC: Final = 5.0
"""Seconds that a container may take to answer a renewal."""


class Upkeep:
    """Periodic work on the open sessions. While other replicas may hold them, it does nothing."""

    def __init__(
        self, sessions: OpenSessions, pool: Pool, replicas: Replicas, settings: SessionSettings
    ) -> None:
        self._sessions = sessions
        self._pool = pool
        self._replicas = replicas
        self._settings = settings

    async def end_overdue(self) -> None:
        """End sessions that have expired or are idle for too long, until cancelled."""
        while True:
            await asyncio.sleep(_CLOCK_SEC)
            if not self._replicas.is_sure:
                continue
            now = clock.now()
            idle_sec = self._settings.idle_sec
            for session in self._sessions:
                if session.record.expires_at <= now:
                    await self._sessions.end(session, "expired")
                elif idle_sec and not session.busy and session.record.last_used_at + idle_sec <= now:
                    await self._sessions.end(session, "idle")

    async def renew_leases(self) -> None:
        """Renew the leases of the sessions' containers, until cancelled."""
        while True:
            await asyncio.sleep(min(_RENEW_SEC, self._settings.lease_sec / 4))
            if self._replicas.is_sure:
                await asyncio.gather(*(self._renew(session) for session in self._sessions))

    async def _renew(self, session: Session) -> None:
        try:
            async with asyncio.timeout(_ANSWER_SEC):
                await session.sandbox.renew_lease(self._settings.lease_sec)
            session.renewed_at = time.monotonic()
        except (SupervisorFailed, TimeoutError) as error:
            slow = "its container is slow to answer"
            reason = slow if isinstance(error, TimeoutError) else log_text(error)
            # A machine that has failed sends no error, but its engine or its cluster may know.
            if await self._is_gone(session):
                log.warning("session %s: %s, and is gone", session.session_id, reason)
                await self._sessions.end(session, "lost")
            elif reason == slow:
                log.warning("session %s: %s", session.session_id, reason)

    async def _is_gone(self, session: Session) -> bool:
        """Return whether the container of a session has ended."""
        if time.monotonic() > session.renewed_at + self._settings.lease_sec:
            # The container has removed itself, because its lease has run out.
            return True
        with contextlib.suppress(SessionsError):
            return not await self._pool.is_running(session.sandbox, session.record.instance_id)
        return False
