"""A conversation: one session of the protocol, with one session of the service."""

import asyncio
import math
from contextlib import suppress
from typing import Final

from sessions import clock
from sessions.errors import SessionEnded, SessionMoving, SessionNotFound
from sessions.manager.manager import SessionManager
from sessions.models import MAX_TTL_SEC, Caller
from sessions.session.session import Session

_NEW: Final = "[This is a new session: it has no variables and no files yet.]"
_REPLACED: Final = "[The previous session {}. This is a new session: variables and files are gone.]"
_REASONS: Final = {
    "expired": "expired, because nothing ran in it for a while",
    "idle": "expired, because nothing ran in it for a while",
    "deleted": "was deleted",
    "lost": "was lost with its container",
}
"""How a session ended, by `SessionEnd`."""
_MIN_EXTENSION: Final = 0.1
"""A session is extended only if that adds at least this part of its life, so not at every call."""


class Conversation:
    """One session of the protocol. The first call that needs a session of the service opens it."""

    def __init__(self, sessions: SessionManager, ttl_sec: int) -> None:
        """`ttl_sec`: seconds for which the session lives after each call."""
        self._sessions = sessions
        self._ttl_sec = ttl_sec
        self._session: Session | None = None
        self._opening = asyncio.Lock()

    async def session(self, caller: Caller, busy_sec: float = 0) -> tuple[Session, str]:
        """Return the session to use, and a note for the model, which is empty unless the session is new.

        Args:
            caller: the owner of the session.
            busy_sec: the longest time that the work may take, in seconds; the session lives longer.

        Raises:
            TooManySessions, AllKernelsBusy, NoCapacity, SupervisorFailed:
                there is no session and none can be opened now.
        """
        async with self._opening:
            note = _NEW
            if self._session is not None:
                try:
                    return await self._alive(self._session, caller.owner, busy_sec), ""
                except SessionEnded as error:
                    note = _REPLACED.format(_REASONS[error.reason])
                except SessionMoving:
                    note = _REPLACED.format("moved to another replica of the service")
                except SessionNotFound:
                    note = _REPLACED.format("is gone")
            self._session = await self._sessions.create(caller, self._life_sec(busy_sec))
            return self._session, note

    async def open_session(self, caller: Caller) -> Session | None:
        """Return the session if there is one and it is alive."""
        if self._session is None:
            return None
        with suppress(SessionEnded, SessionMoving, SessionNotFound):
            return await self._alive(self._session, caller.owner)
        return None

    async def _alive(self, known: Session, owner: str, busy_sec: float = 0) -> Session:
        """Return a session that is still alive, and extend its life. Raises `SessionEnded` and others."""
        session = await self._sessions.get(known.session_id, owner)
        life_sec = self._life_sec(busy_sec)
        if session.record.expires_at < clock.now() + life_sec * (1 - _MIN_EXTENSION):
            await self._sessions.extend(session, life_sec)
        return session

    def _life_sec(self, busy_sec: float) -> int:
        return min(self._ttl_sec + math.ceil(busy_sec), MAX_TTL_SEC)

    async def end(self) -> None:
        """End the session and stop the code that runs in it."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(SessionEnded, SessionMoving, SessionNotFound):
                owner = session.record.owner
                await self._sessions.delete(await self._sessions.get(session.session_id, owner))
