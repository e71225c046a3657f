"""Takes up sessions that this service did not open: after a restart, and from other replicas."""

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import Final

from kernel_image import contract
from sessions import clock
from sessions.containers.pool.pool import Pool
from sessions.errors import SecretUnreadable, SessionMoving, SessionsError, log_text
from sessions.kernels.connection import Connection
from sessions.manager.open_sessions import OpenSessions
from sessions.models import Container
from sessions.ports import Replicas
from sessions.records import SessionRecord
from sessions.session.services import SessionServices
from sessions.session.session import Session

log = logging.getLogger(__name__)

_WAIT_SEC: Final = 30.0
"""Seconds that a call waits until its session is resumed."""


class Resumer:
    """Resumes sessions in their containers, and releases them to other replicas."""

    def __init__(
        self, sessions: OpenSessions, pool: Pool, replicas: Replicas, services: SessionServices
    ) -> None:
        self._sessions = sessions
        self._pool = pool
        self._replicas = replicas
        self._services = services
        self._resuming: dict[str, asyncio.Task[None]] = {}
        self._pending: dict[str, SessionRecord] = {}
        """Sessions that this replica holds and has not resumed yet."""

    async def start(self) -> None:
        """Resume the sessions that this service held before it was restarted."""
        self._replicas.call_when_lost(self._release_all)
        records = await self._replicas.sessions_at_start()
        await asyncio.gather(*(self._resume(record) for record in records))

    async def take_over(self) -> None:
        """Resume sessions that this replica takes from others, until cancelled; try failed ones again."""
        async for taken in self._replicas.rounds():
            if self._replicas.is_sure:
                again = [
                    record for record in self._pending.values() if record.session_id not in self._resuming
                ]
                self._resume_soon(again)
            self._resume_soon(taken)

    async def find(self, session_id: str, owner: str) -> Session | None:
        """Return the owner's session if this service holds it; take it first if no replica holds it.

        Raises:
            SessionElsewhere: another replica holds it.
            SessionMoving: no replica holds it for certain at the moment.
        """
        session = self._sessions.find(session_id, owner)
        if session is None and session_id not in self._resuming:
            record = await self._replicas.find(session_id, owner)
            if record is not None:
                self._resume_soon([record])
        if session_id in self._resuming:
            await asyncio.wait({self._resuming[session_id]}, timeout=_WAIT_SEC)
        session = self._sessions.find(session_id, owner)
        if session is not None and (session_id in self._resuming or not self._replicas.is_sure):
            raise SessionMoving(session_id)
        return session

    async def close(self) -> None:
        """Wait until every session that is being resumed is resumed or has failed to resume."""
        await asyncio.gather(*self._resuming.values(), return_exceptions=True)

    async def _resume(self, record: SessionRecord) -> None:
        """Resume a session in its container, or end it as lost."""
        try:
            container = await self._services.containers.get_container(record.container_id)
        except SecretUnreadable as error:
            log.error("session %s is lost: %s", record.session_id, error)
            container = None
        if container is None:
            await self._lose_cells(record)
            await self._services.rows.end_session(record.session_id, "lost", clock.now())
            self._pool.abandon(record.container_id)
            return
        ports = {
            contract.SUPERVISOR_PORT: container.supervisor_port,
            contract.SHELL_PORT: container.shell_port,
            contract.IOPUB_PORT: container.iopub_port,
        }
        where = Container(container.container_id, container.name, container.address, ports)
        sandbox = self._pool.adopt(Connection(where, container.token, container.kernel_key))
        session = Session(record, sandbox, self._services, self._sessions.lose)
        self._sessions.add(session)
        try:
            await session.resume()
        except SessionsError as error:
            log.warning("session %s did not survive: %s", record.session_id, log_text(error))
            await self._lose_cells(record)
            await self._sessions.end(session, "lost")
        else:
            log.info("session %s goes on", record.session_id)

    async def _lose_cells(self, record: SessionRecord) -> None:
        """Record that the ends of a session's running cells are not known."""
        for cell in await self._services.rows.running_cells(record.session_id):
            self._services.recording.lose(cell, record.owner)

    def _resume_soon(self, records: Iterable[SessionRecord]) -> None:
        """Resume sessions in the background. Calls for them wait."""
        for record in records:
            session_id = record.session_id
            self._pending[session_id] = record
            task = self._resuming[session_id] = asyncio.create_task(self._resume_pending(record))
            task.add_done_callback(partial(self._resumed, session_id))

    def _resumed(self, session_id: str, _: asyncio.Task[None]) -> None:
        self._resuming.pop(session_id, None)

    async def _resume_pending(self, record: SessionRecord) -> None:
        try:
            await self._resume(record)
        except Exception as error:
            # For instance, the database is unavailable just now. The next round tries again.
            log.warning("session %s is not resumed yet: %s", record.session_id, error)
            session = self._sessions.remove(record.session_id)
            if session is not None:
                await session.close(SessionMoving(record.session_id))
                await self._pool.release(session.sandbox)
        else:
            self._pending.pop(record.session_id, None)

    async def _release_all(self) -> None:
        """Release all sessions, because other replicas may have taken them."""
        self._pending.clear()
        await asyncio.gather(*self._resuming.values(), return_exceptions=True)
        for session in self._sessions.take_all():
            await session.close(SessionMoving(session.session_id))
            await self._pool.release(session.sandbox)
