"""A service that shares its registry with no other."""

from collections.abc import AsyncIterator, Awaitable, Callable

from service.database.registries.session_registry import SessionRegistry
from sessions.records import OpenSessionRecord, SessionRecord


class SingleService:
    """`sessions.ports.Replicas` without replicas: every session of the instance is held here."""

    holder = None
    is_sure = True

    def __init__(self, session_registry: SessionRegistry, instance_id: str) -> None:
        self._session_registry = session_registry
        self._instance_id = instance_id

    def call_when_lost(self, let_go: Callable[[], Awaitable[None]]) -> None:
        """Do nothing: no other service can take a session."""

    async def sessions_at_start(self) -> list[SessionRecord]:
        return await self._session_registry.live_sessions(self._instance_id)

    async def rounds(self) -> AsyncIterator[list[SessionRecord]]:
        """Yield nothing: there are no other replicas whose sessions this service could take."""
        rounds: tuple[list[SessionRecord], ...] = ()
        for taken in rounds:
            yield taken

    async def find(self, session_id: str, owner: str) -> SessionRecord | None:
        return None

    async def require_here(self, session_id: str, owner: str) -> None:
        """Do nothing: no other service holds a session."""

    async def open_sessions(self, owner: str) -> list[OpenSessionRecord]:
        return []

    async def count_sessions(self, owner: str) -> int:
        return 0

    async def add_session(self, session: SessionRecord, limit: int) -> bool:
        """Add the row and return True: the session manager has checked the limit."""
        await self._session_registry.add_session(session)
        return True

    async def kept_containers(self) -> list[str]:
        """Return the ids of the containers that the pool must not remove at the start."""
        return [
            record.container_id for record in await self._session_registry.live_sessions(self._instance_id)
        ]

    async def is_my_turn(self, what: str, interval_sec: float) -> bool:
        """Return True: no other service does the periodic work."""
        return True
