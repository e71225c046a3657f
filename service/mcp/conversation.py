"""A conversation of a client: one session of ours, opened by the first call that needs it."""

import asyncio
import math
from contextlib import suppress
from typing import Final

from service.auth.keyring import Caller
from service.routes.schemas.sessions import MAX_TTL_SEC, CreateSessionRequest
from sessions import clock
from sessions.errors import SessionEnded, SessionMoving, SessionNotFound
from sessions.manager import SessionManager
from sessions.session import Session

_NEW: Final = "[This is a new session: it has no variables yet, and no files.]"
_GONE: Final = "[The session before this one {}. This is a new one: variables and files are gone.]"
_REASONS: Final = {
    "expired": "has expired, as nothing ran in it for a while",
    "idle": "has expired, as nothing ran in it for a while",
    "deleted": "was deleted",
    "lost": "was lost with its container",
}
_SLACK: Final = 0.1
"""A session's life is not lengthened by less than this part of it."""


class Conversation:
    """What belongs to one session of the protocol; ``ttl_sec`` is how long ours lives after a call."""

    def __init__(self, sessions: SessionManager, ttl_sec: int) -> None:
        self._sessions = sessions
        self._ttl_sec = ttl_sec
        self._session: Session | None = None
        self._opening = asyncio.Lock()

    async def session(self, caller: Caller, busy_sec: float = 0) -> tuple[Session, str]:
        """The session to work in, and what to tell of it: nothing, unless it is a new one.

        It lives as long as work that takes ``busy_sec``, and then as long as ever.

        Raises:
            TooManySessions, NoCapacity, SupervisorFailed: there is none, and none can be made now.
        """
        async with self._opening:
            note = _NEW
            if self._session is not None:
                try:
                    return await self._alive(self._session, caller.owner, busy_sec), ""
                except SessionEnded as error:
                    note = _GONE.format(_REASONS[error.reason])
                except SessionMoving:
                    note = _GONE.format("has moved to another replica of the service")
                except SessionNotFound:
                    note = _GONE.format("is gone")
            request = CreateSessionRequest(ttl_seconds=self._life_sec(busy_sec))
            self._session = await self._sessions.create(request, caller)
            return self._session, note

    async def open_session(self, caller: Caller) -> Session | None:
        """The session if there is one already, that lives."""
        if self._session is None:
            return None
        with suppress(SessionEnded, SessionMoving, SessionNotFound):
            return await self._alive(self._session, caller.owner)
        return None

    async def _alive(self, known: Session, owner: str, busy_sec: float = 0) -> Session:
        session = await self._sessions.get(known.session_id, owner)
        life_sec = self._life_sec(busy_sec)
        if session.record.expires_at < clock.now() + life_sec * (1 - _SLACK):
            await self._sessions.extend(session, life_sec)
        return session

    def _life_sec(self, busy_sec: float) -> int:
        return min(self._ttl_sec + math.ceil(busy_sec), MAX_TTL_SEC)

    async def end(self) -> None:
        """End the session, with what runs in it."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(SessionEnded, SessionMoving, SessionNotFound):
                owner = session.record.owner
                await self._sessions.delete(await self._sessions.get(session.session_id, owner))
