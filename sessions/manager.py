"""All open sessions: making, finding, ending them, and taking them up again after a restart."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Final, Self

from kernel_image import contract
from service.auth.keyring import Caller
from service.database.container_registry import ContainerRegistry
from service.database.session_registry import SessionRegistry
from service.replicas.leases import Replicas
from service.routes.schemas.sessions import CreateSessionRequest
from service.telemetry.request_context import current
from sessions import clock
from sessions.containers.pool.pool import Pool
from sessions.containers.sandbox import Sandbox
from sessions.errors import (
    CallFailed,
    CellNotFound,
    SessionEnded,
    SessionMoving,
    SessionNotFound,
    SessionsError,
    TooManySessions,
    log_text,
)
from sessions.executions.one_shot import OneShotExecutor
from sessions.executions.timeline import Timeline
from sessions.kernels.connection import Connection
from sessions.kernels.errors import SupervisorFailed
from sessions.models import Container
from sessions.records import CellRecord, OpenSessionRecord, SessionEnd, SessionRecord
from sessions.session import Session, new_session_id
from sessions.tasks import BackgroundTasks

log = logging.getLogger(__name__)

_LOOK_SEC: Final = 0.5
"""Between two looks at the clock: how late a session may end."""
_RENEW_SEC: Final = 5.0
_AGAIN_SEC: Final = 1.0
"""Between two looks for sessions of replicas that are gone, and two tries to note how one has ended."""
_RESUME_SEC: Final = 30.0
"""How long a call waits for its session to be taken up."""
_ANSWER_SEC: Final = 5.0


class SessionManager:
    """All open sessions. Use as `async with SessionManager(...)`; leaving keeps the containers."""

    def __init__(
        self,
        executor: OneShotExecutor,
        pool: Pool,
        registry: ContainerRegistry,
        sessions: SessionRegistry,
        instance_id: str,
        replicas: Replicas | None = None,
    ) -> None:
        """With `replicas` these are the sessions that this one of them holds."""
        self.registry = sessions
        self._executor = executor
        self._settings = executor.stores.settings
        self._pool = pool
        self._containers = registry
        self._instance_id = instance_id
        self._replicas = replicas
        self._open: dict[str, Session] = {}
        self._resuming: dict[str, asyncio.Task[None]] = {}
        self._to_resume: dict[str, SessionRecord] = {}
        """What this replica holds and could not take up yet."""
        self._creating: Counter[str] = Counter()
        self._tasks = BackgroundTasks()

    async def __aenter__(self) -> Self:
        if self._replicas is None:
            records = await self.registry.live_sessions(self._instance_id)
            await asyncio.gather(*(self._resume(record) for record in records))
        else:
            self._replicas.on_lost = self._let_go
            self._tasks.start(self._take_up(self._replicas))
        for work in (self._watch_clock(), self._renew_leases()):
            self._tasks.start(work)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.close()
        await asyncio.gather(*self._resuming.values(), return_exceptions=True)
        stopping = SupervisorFailed("the service is stopping; the session goes on")
        for session in self._open.values():
            await session.close(stopping)
            await session.sandbox.close()

    # --- finding ----------------------------------------------------------------------------------

    async def get(self, session_id: str, owner: str) -> Session:
        """The owner's open session of this id.

        Raises:
            SessionNotFound: there never was one.
            SessionEnded: there is none any more.
            SessionElsewhere, SessionMoving: another replica has it, or nobody at the moment.
        """
        session = self._own(session_id, owner)
        if self._replicas is not None:
            session = await self._held(self._replicas, session, session_id, owner)
        if session is not None and session.record.expires_at > clock.now():
            return session
        if session is not None:
            await self._end(session, "expired")
        record = await self.registry.get_session(session_id, owner)
        if record is None or record.ended_at is None or record.end_reason is None:
            raise SessionNotFound(session_id)
        raise SessionEnded(session_id, record.end_reason, record.ended_at)

    async def _held(
        self, replicas: Replicas, session: Session | None, session_id: str, owner: str
    ) -> Session | None:
        """A session that no other replica can hold, taken up now if it was free."""
        if session is None and session_id not in self._resuming:
            record = await replicas.find(session_id, owner)
            if record is not None:
                self._resume_soon([record])
        if session_id in self._resuming:
            await asyncio.wait({self._resuming[session_id]}, timeout=_RESUME_SEC)
        session = self._own(session_id, owner)
        if session is not None and (session_id in self._resuming or not replicas.is_sure):
            raise SessionMoving(session_id)
        return session

    def _own(self, session_id: str, owner: str) -> Session | None:
        session = self._open.get(session_id)
        return session if session is not None and session.record.owner == owner else None

    async def require(self, session_id: str, owner: str) -> None:
        """Return when the cells of a session, live or ended, can be read here.

        Raises:
            SessionNotFound: there never was one.
            SessionElsewhere: another replica may know more than the registry.
        """
        session = self._own(session_id, owner)
        if session is None and self._replicas is not None:
            await self._replicas.look(session_id, owner)
        if session is not None:
            await session.written()
        elif await self.registry.get_session(session_id, owner) is None:
            raise SessionNotFound(session_id)

    async def cell(self, session_id: str, cell_id: str) -> CellRecord:
        """A cell of a session. Raises `CellNotFound`."""
        cell = await self.registry.get_cell(session_id, cell_id)
        if cell is None:
            raise CellNotFound(cell_id)
        return cell

    def counts(self) -> tuple[int, int]:
        """How many sessions are ready, and how many busy."""
        busy = sum(session.busy for session in self._open.values())
        return len(self._open) - busy, busy

    def all_of(self, owner: str) -> list[Session]:
        """The owner's open sessions, oldest first."""
        own = (session for session in self._open.values() if session.record.owner == owner)
        return sorted(own, key=lambda session: session.record.created_at)

    async def settled(self, owner: str) -> list[Session]:
        """As `all_of`, none of which is busy with a cell that has given its result."""
        found = self.all_of(owner)
        await asyncio.gather(*(session.written() for session in found))
        return found

    async def elsewhere(self, owner: str) -> list[OpenSessionRecord]:
        """The owner's open sessions that other replicas hold, as far as the registry knows them."""
        if self._replicas is None:
            return []
        return [
            seen
            for seen in await self.registry.open_sessions(owner)
            if seen.record.session_id not in self._open and seen.record.expires_at > clock.now()
        ]

    # --- making and ending ------------------------------------------------------------------------

    async def create(self, request: CreateSessionRequest, caller: Caller) -> Session:
        """Open a session with its inputs staged.

        Raises:
            InvalidPath, InputNotFound, WorkspaceFull: the request is at fault.
            TooManySessions, SessionMoving, NoCapacity, SupervisorFailed: it may work later.
        """
        inputs = await self._executor.find_inputs(request.files, caller.owner)
        await self._check_room(caller.owner)
        executions = self._executor.executions
        self._creating[caller.owner] += 1
        try:
            waiting_since, timeline = clock.now(), Timeline()
            sandbox = await self._pool.keep(caller.tenant)
            timeline.waited(waiting_since, sandbox.launched)
            executions.metrics.waited("open", timeline)
            executions.traces.waited(current(), timeline)
            try:
                await sandbox.renew_lease(self._settings.sessions.session_lease_sec)
                await self._executor.put_inputs(sandbox, inputs, caller.owner)
                now = clock.now()
                record = SessionRecord(
                    session_id=new_session_id(),
                    container_id=sandbox.container_id,
                    instance_id=self._instance_id,
                    created_at=now,
                    expires_at=now + request.ttl_seconds,
                    last_used_at=now,
                    owner=caller.owner,
                    holder=None if self._replicas is None else self._replicas.replica.replica_id,
                )
                await self._add(record)
            except BaseException:
                self._pool.drop(sandbox)
                raise
        finally:
            self._creating[caller.owner] -= 1
        session = self._session(record, sandbox)
        self._open[record.session_id] = session
        executions.metrics.session_opened()
        return session

    async def _add(self, record: SessionRecord) -> None:
        """Remember a session.

        Raises:
            TooManySessions: other replicas have made some meanwhile.
            SessionMoving: they have taken this one for dead.
        """
        if self._replicas is None:
            await self.registry.add_session(record)
            return
        of_key = self._settings.keys.limits.sessions
        if not await self._replicas.registry.add_session(record, of_key):
            raise TooManySessions(of_key, "KEY_MAX_SESSIONS")

    async def _check_room(self, owner: str) -> None:
        of_key = self._settings.keys.limits.sessions
        if of_key:
            here = len(self.all_of(owner))
            there = 0 if self._replicas is None else await self._replicas.registry.count_sessions(owner)
            if max(here, there) + self._creating[owner] >= of_key:
                raise TooManySessions(of_key, "KEY_MAX_SESSIONS")
        if len(self._open) + self._creating.total() >= self._settings.sessions.max_sessions:
            raise TooManySessions(self._settings.sessions.max_sessions)

    def _session(self, record: SessionRecord, sandbox: Sandbox) -> Session:
        return Session(record, sandbox, self._executor, self._containers, self.registry, self._lose)

    async def extend(self, session: Session, ttl_seconds: int) -> None:
        """Let a session live for that many seconds from now."""
        expires_at = clock.now() + ttl_seconds
        await self.registry.update_session(session.session_id, expires_at=expires_at)
        session.record = replace(session.record, expires_at=expires_at)

    async def delete(self, session: Session) -> None:
        """End a session because its owner says so."""
        await self._end(session, "deleted")

    async def _end(self, session: Session, reason: SessionEnd) -> None:
        if self._open.pop(session.session_id, None) is None:
            return
        now = clock.now()
        await session.close(SessionEnded(session.session_id, reason, now))
        try:
            await self.registry.end_session(session.session_id, reason, now)
        except CallFailed as error:
            log.warning(
                "the end of session %s is kept when the registry is back: %s", session.session_id, error
            )
            self._tasks.start(self._end_late(session.session_id, reason, now))
        self._pool.drop(session.sandbox)
        self._executor.executions.metrics.session_ended(reason)
        log.info("session %s ended: %s", session.session_id, reason)

    def _lose(self, session: Session) -> None:
        """Its container is gone. The cell that finds out is still running, so this is done apart."""
        self._tasks.start(self._end(session, "lost"))

    async def _end_late(self, session_id: str, reason: SessionEnd, at: float) -> None:
        """Keep the end of a session that the registry has not taken."""
        while True:
            await asyncio.sleep(_AGAIN_SEC)
            with contextlib.suppress(CallFailed):
                await self.registry.end_session(session_id, reason, at)
                return

    # --- keeping ----------------------------------------------------------------------------------

    async def _resume(self, record: SessionRecord) -> None:
        container = await self._containers.get_container(record.container_id)
        if container is None:
            await self._lose_cells(record)
            await self.registry.end_session(record.session_id, "lost", clock.now())
            return
        ports = {
            contract.SUPERVISOR_PORT: container.supervisor_port,
            contract.SHELL_PORT: container.shell_port,
            contract.IOPUB_PORT: container.iopub_port,
        }
        where = Container(container.container_id, container.name, container.address, ports)
        sandbox = self._pool.adopt(Connection(where, container.token, container.kernel_key))
        session = self._session(record, sandbox)
        self._open[record.session_id] = session
        try:
            await session.resume()
        except SessionsError as error:
            log.warning("session %s did not survive: %s", record.session_id, log_text(error))
            await self._lose_cells(record)
            await self._end(session, "lost")
        else:
            log.info("session %s goes on", record.session_id)

    async def _lose_cells(self, record: SessionRecord) -> None:
        """Note that nobody saw the end of those that ran."""
        for cell in await self.registry.running_cells(record.session_id):
            self._executor.executions.lose(cell, record.owner)

    @property
    def _may_end(self) -> bool:
        """Whether what is known here of sessions is so: no other replica can have them."""
        return self._replicas is None or self._replicas.is_sure

    async def _watch_clock(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SEC)
            if not self._may_end:
                continue
            now = clock.now()
            idle_sec = self._settings.sessions.session_idle_sec
            for session in list(self._open.values()):
                if session.record.expires_at <= now:
                    await self._end(session, "expired")
                elif idle_sec and not session.busy and session.record.last_used_at + idle_sec <= now:
                    await self._end(session, "idle")

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(min(_RENEW_SEC, self._settings.sessions.session_lease_sec / 4))
            if self._may_end:
                await asyncio.gather(*(self._renew(session) for session in self._open.values()))

    async def _renew(self, session: Session) -> None:
        try:
            async with asyncio.timeout(_ANSWER_SEC):
                await session.sandbox.renew_lease(self._settings.sessions.session_lease_sec)
            session.renewed_at = time.monotonic()
        except (SupervisorFailed, TimeoutError) as error:
            slow = "its container is slow to answer"
            reason = slow if isinstance(error, TimeoutError) else log_text(error)
            # A machine that is gone says nothing; its engine, or the cluster, may have given it up.
            if await self._is_gone(session):
                log.warning("session %s: %s, and is gone", session.session_id, reason)
                await self._end(session, "lost")
            elif reason == slow:
                log.warning("session %s: %s", session.session_id, reason)

    async def _is_gone(self, session: Session) -> bool:
        if time.monotonic() > session.renewed_at + self._settings.sessions.session_lease_sec:
            # If nothing else has, its lease has ended the container.
            return True
        with contextlib.suppress(SessionsError):
            return not await self._pool.is_running(session.sandbox, session.record.instance_id)
        return False

    # --- among other replicas ---------------------------------------------------------------------

    def _resume_soon(self, records: Iterable[SessionRecord]) -> None:
        """Take up sessions that this replica holds now; calls for them wait."""
        for record in records:
            session_id = record.session_id
            self._to_resume[session_id] = record
            task = self._resuming[session_id] = asyncio.create_task(self._resume_held(record))
            task.add_done_callback(partial(self._resumed, session_id))

    def _resumed(self, session_id: str, _: asyncio.Task[None]) -> None:
        self._resuming.pop(session_id, None)

    async def _resume_held(self, record: SessionRecord) -> None:
        try:
            await self._resume(record)
        except Exception as error:
            # Such as a database that is gone just now: another try is made.
            log.warning("session %s is not taken up yet: %s", record.session_id, error)
            session = self._open.pop(record.session_id, None)
            if session is not None:
                await session.close(SessionMoving(record.session_id))
                await self._pool.release(session.sandbox)
        else:
            self._to_resume.pop(record.session_id, None)

    async def _take_up(self, replicas: Replicas) -> None:
        """Take what nobody holds, again and again, and end what nobody will take any more."""
        while True:
            try:
                if replicas.is_sure:
                    again = [r for r in self._to_resume.values() if r.session_id not in self._resuming]
                    self._resume_soon(again)
                self._resume_soon(await replicas.take())
                lease_sec = self._settings.sessions.session_lease_sec
                for reason, session_ids in (await replicas.overdue(lease_sec)).items():
                    for session_id in session_ids:
                        await self.registry.end_session(session_id, reason, clock.now())
            except Exception as error:
                log.warning("looking for sessions that nobody holds failed: %s", error)
            await asyncio.sleep(_AGAIN_SEC)

    async def _let_go(self) -> None:
        """Other replicas may have these sessions by now."""
        self._to_resume.clear()
        await asyncio.gather(*self._resuming.values(), return_exceptions=True)
        sessions, self._open = list(self._open.values()), {}
        for session in sessions:
            await session.close(SessionMoving(session.session_id))
            await self._pool.release(session.sandbox)
