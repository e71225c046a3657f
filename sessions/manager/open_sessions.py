"""The sessions that this service holds, by id, and how they end."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Final

from sessions import clock
from sessions.containers.pool.pool import Pool
from sessions.errors import CallFailed, SessionEnded
from sessions.records import SessionEnd
from sessions.session.services import SessionServices
from sessions.session.session import Session
from sessions.tasks import BackgroundTasks

log = logging.getLogger(__name__)

_AGAIN_SEC: Final = 1.0
"""Pause between two tries to write the end of a session."""


class OpenSessions:
    """The open sessions of this service."""

    def __init__(self, pool: Pool, services: SessionServices) -> None:
        self._pool = pool
        self._services = services
        self._sessions: dict[str, Session] = {}
        self._tasks = BackgroundTasks()

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        """Iterate over the sessions as they are now; sessions may end meanwhile."""
        return iter(list(self._sessions.values()))

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._sessions

    def add(self, session: Session) -> None:
        """Add an open session."""
        self._sessions[session.session_id] = session

    def remove(self, session_id: str) -> Session | None:
        """Remove a session without ending it; return it, or None if it is not here."""
        return self._sessions.pop(session_id, None)

    def take_all(self) -> list[Session]:
        """Remove all sessions without ending them, and return them."""
        sessions, self._sessions = list(self._sessions.values()), {}
        return sessions

    def find(self, session_id: str, owner: str) -> Session | None:
        """Return the owner's session of this id; None if it is not here."""
        session = self._sessions.get(session_id)
        return session if session is not None and session.record.owner == owner else None

    async def end(self, session: Session, reason: SessionEnd) -> None:
        """End a session: its callers get an error, and its row says why.

        If the session was idle, and its row is written, its container may serve the same tenant again.
        """
        if self.remove(session.session_id) is None:
            return
        await session.cells.written()
        now = clock.now()
        is_idle = not session.is_in_use and reason != "lost"
        await session.close(SessionEnded(session.session_id, reason, now))
        try:
            await self._services.rows.end_session(session.session_id, reason, now)
        except CallFailed as error:
            log.warning(
                "the end of session %s is written when the registry is available again: %s",
                session.session_id,
                error,
            )
            self._tasks.start(self._end_late(session.session_id, reason, now))
        else:
            session.sandbox.ended_well = is_idle
        self._pool.take_back(session.sandbox)
        self._services.recording.session_ended(reason)
        log.info("session %s ended: %s", session.session_id, reason)

    def lose(self, session: Session) -> None:
        """End a session as lost, in the background: the cell that found out is still running."""
        self._tasks.start(self.end(session, "lost"))

    async def _end_late(self, session_id: str, reason: SessionEnd, at: float) -> None:
        """Write the end of a session as soon as the registry is available."""
        while True:
            await asyncio.sleep(_AGAIN_SEC)
            with contextlib.suppress(CallFailed):
                await self._services.rows.end_session(session_id, reason, at)
                return

    async def close(self) -> None:
        """Stop writing ends that are not written yet."""
        await self._tasks.close()
