"""All sessions: creating, finding and ending them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Self

from sessions import clock
from sessions.containers.pool.pool import Pool
from sessions.errors import (
    CONTAINER_UNHARMED,
    CellNotFound,
    SessionEnded,
    SessionNotFound,
    TooManySessions,
)
from sessions.executions.request import InputFile
from sessions.kernels.errors import SupervisorFailed
from sessions.manager.open_sessions import OpenSessions
from sessions.manager.resumer import Resumer
from sessions.manager.upkeep import Upkeep
from sessions.models import Caller
from sessions.ports import Replicas
from sessions.records import TEXT_BYTES, CellPage, OpenSessionRecord, SessionRecord, StoredCell
from sessions.session.services import SessionServices
from sessions.session.session import Session, new_session_id
from sessions.tasks import BackgroundTasks
from sessions.timeline import Timeline


class SessionManager:
    """All sessions. Use as `async with SessionManager(...)`; leaving keeps the containers."""

    def __init__(self, pool: Pool, services: SessionServices, replicas: Replicas, instance_id: str) -> None:
        self._pool = pool
        self._services = services
        self._settings = services.settings
        self._replicas = replicas
        self._instance_id = instance_id
        self._open = OpenSessions(pool, services)
        self._resumer = Resumer(self._open, pool, replicas, services)
        self._upkeep = Upkeep(self._open, pool, replicas, services.settings)
        self._creating: Counter[str] = Counter()
        """Sessions of each owner that are being created."""
        self._tasks = BackgroundTasks()

    async def __aenter__(self) -> Self:
        await self._resumer.start()
        for work in (
            self._resumer.take_over(),
            self._upkeep.end_overdue(),
            self._upkeep.renew_leases(),
        ):
            self._tasks.start(work)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()
        await self._open.close()
        await self._resumer.close()
        stopping = SupervisorFailed("the service is stopping; the session goes on")
        for session in self._open:
            await session.close(stopping)
            await session.sandbox.close()

    # --- finding ----------------------------------------------------------------------------------

    async def get(self, session_id: str, owner: str) -> Session:
        """Return the owner's open session of this id.

        Raises:
            SessionNotFound: there never was one.
            SessionEnded: it has ended.
            SessionElsewhere: another replica holds it.
            SessionMoving: no replica holds it for certain at the moment.
        """
        session = await self._resumer.find(session_id, owner)
        if session is not None and session.record.expires_at > clock.now():
            return session
        if session is not None:
            await self._open.end(session, "expired")
        record = await self._services.rows.get_session(session_id, owner)
        if record is None or record.ended_at is None or record.end_reason is None:
            raise SessionNotFound(session_id)
        raise SessionEnded(session_id, record.end_reason, record.ended_at)

    async def cells(
        self, session_id: str, owner: str, limit: int = 100, after: str | None = None
    ) -> CellPage:
        """Return a page of the cells of the owner's session, also of an ended one, by number.

        Args:
            limit: most cells of the page, which has fewer if they are large.
            after: `next` of the page before.

        Raises:
            SessionNotFound: there never was such a session.
            SessionElsewhere: another replica holds it, and may know more than the registry.
        """
        await self._require(session_id, owner)
        return await self._services.rows.cells(session_id, limit, after)

    async def cell(self, session_id: str, cell_id: str, owner: str) -> StoredCell:
        """Return one cell of a session. Errors as `cells`, and `CellNotFound`."""
        await self._require(session_id, owner)
        found = await self._services.rows.stored_cells([cell_id])
        if not found or found[0].record.session_id != session_id:
            raise CellNotFound(cell_id)
        return found[0]

    async def stored_cells(self, page: CellPage) -> AsyncIterator[StoredCell]:
        """Yield the cells of a page that still exist. Few of their texts are in memory at once."""
        batch: list[str] = []
        room = TEXT_BYTES
        for cell in page.cells:
            if batch and cell.size_bytes > room:
                for found in await self._services.rows.stored_cells(batch):
                    yield found
                batch, room = [], TEXT_BYTES
            batch.append(cell.cell_id)
            room -= cell.size_bytes
        if batch:
            for found in await self._services.rows.stored_cells(batch):
                yield found

    async def _require(self, session_id: str, owner: str) -> None:
        """Return when the registry has all ended cells of a session. Errors as `cells`."""
        session = self._open.find(session_id, owner)
        if session is not None:
            await session.cells.written()
            return
        await self._replicas.require_here(session_id, owner)
        if await self._services.rows.get_session(session_id, owner) is None:
            raise SessionNotFound(session_id)

    def counts(self) -> tuple[int, int]:
        """Return how many sessions are idle, and how many are busy."""
        busy = sum(session.busy for session in self._open)
        return len(self._open) - busy, busy

    def all_of(self, owner: str) -> list[Session]:
        """Return the owner's open sessions of this service, oldest first."""
        own = (session for session in self._open if session.record.owner == owner)
        return sorted(own, key=lambda session: session.record.created_at)

    async def all_written(self, owner: str) -> list[Session]:
        """Return the sessions of `all_of`, once the results of their last cells are in the registry."""
        found = self.all_of(owner)
        await asyncio.gather(*(session.cells.written() for session in found))
        return found

    async def open_at_other_replicas(self, owner: str) -> list[OpenSessionRecord]:
        """Return the owner's open sessions that other replicas hold, from the registry."""
        return [
            session
            for session in await self._replicas.open_sessions(owner)
            if session.record.session_id not in self._open and session.record.expires_at > clock.now()
        ]

    # --- creating and ending ----------------------------------------------------------------------

    async def create(self, caller: Caller, ttl_seconds: float, files: Sequence[InputFile] = ()) -> Session:
        """Open a session with its inputs staged.

        Args:
            ttl_seconds: seconds until the session expires.

        Raises:
            InvalidPath, InputNotFound, WorkspaceFull: the request is at fault.
            TooManySessions, SessionMoving, AllKernelsBusy, NoCapacity, SupervisorFailed:
                a later try may succeed.
        """
        staging = self._services.staging
        inputs = await staging.find(files, caller.owner)
        await self._check_limits(caller.owner)
        self._creating[caller.owner] += 1
        try:
            waiting_since, timeline = clock.now(), Timeline()
            sandbox = await self._pool.keep(caller.tenant)
            timeline.waited(waiting_since, sandbox.launched)
            try:
                await sandbox.renew_lease(self._settings.lease_sec)
                await staging.put(sandbox, inputs, caller.owner)
                now = clock.now()
                record = SessionRecord(
                    session_id=new_session_id(),
                    container_id=sandbox.container_id,
                    instance_id=self._instance_id,
                    created_at=now,
                    expires_at=now + ttl_seconds,
                    last_used_at=now,
                    owner=caller.owner,
                    holder=self._replicas.holder,
                )
                limit = self._settings.max_per_owner
                if not await self._replicas.add_session(record, limit):
                    raise TooManySessions(limit, "KEY_MAX_SESSIONS")
            except BaseException as error:
                sandbox.ended_well = isinstance(error, CONTAINER_UNHARMED)
                self._pool.take_back(sandbox)
                raise
        finally:
            self._creating[caller.owner] -= 1
        session = Session(record, sandbox, self._services, self._open.lose)
        self._open.add(session)
        self._services.recording.session_opened(timeline)
        return session

    async def _check_limits(self, owner: str) -> None:
        """Raise `TooManySessions` if the owner, or this service, has as many sessions as allowed."""
        limit = self._settings.max_per_owner
        if limit:
            here = len(self.all_of(owner))
            everywhere = await self._replicas.count_sessions(owner)
            if max(here, everywhere) + self._creating[owner] >= limit:
                raise TooManySessions(limit, "KEY_MAX_SESSIONS")
        if len(self._open) + self._creating.total() >= self._settings.max_sessions:
            raise TooManySessions(self._settings.max_sessions)

    async def extend(self, session: Session, ttl_seconds: float) -> None:
        """Let a session expire `ttl_seconds` from now."""
        expires_at = clock.now() + ttl_seconds
        await self._services.rows.update_session(session.session_id, expires_at=expires_at)
        session.expires(expires_at)

    async def delete(self, session: Session) -> None:
        """End a session because its owner asks for it."""
        await self._open.end(session, "deleted")
