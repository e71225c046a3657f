"""The registry's replicas: services that share it, and which of them holds a session.

A replica lives as long as its row is there. A row that has expired is removed, and with it the hold on its
sessions, in one transaction: so who could renew is alive, whatever the clocks say. Times are the database's.

Only for PostgreSQL, by whose row locks the replicas agree.
"""

import time
from dataclasses import asdict
from typing import Final

from sqlalchemy import ColumnElement, Float, and_, cast, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from service.database.database import Database, as_record, count
from service.database.records import ReplicaRecord
from service.database.tables import ContainerRow, InstanceRow, ReplicaRow, SessionRow, table_of
from sessions.errors import SessionMoving
from sessions.records import SessionRecord

# Looked at for each row anew, also after a wait for a lock; in a subquery once, as indexes want it.
_NOW: Final[ColumnElement[float]] = cast(func.extract("epoch", func.clock_timestamp()), Float(53))
_FORGOTTEN_SEC: Final = 60.0
_LIVE: Final = SessionRow.ended_at.is_(None)
_FREE: Final = and_(_LIVE, SessionRow.holder.is_(None))


class ReplicaRegistry:
    """Replicas in the registry. Each method is one transaction; errors as ``Database.run``."""

    def __init__(self, database: Database) -> None:
        self._run = database.run

    # A replica's life

    async def join(self, replica: ReplicaRecord, lease_sec: float) -> bool:
        """Add a replica; False if another of its instance id is there that has not expired."""

        def change(db: Session) -> bool:
            _bury(db, ReplicaRow.instance_id == replica.instance_id, ReplicaRow.expires_at <= _NOW)
            same = select(ReplicaRow.replica_id).where(ReplicaRow.instance_id == replica.instance_id)
            if db.scalar(same.limit(1)) is not None:
                return False
            row = {
                "replica_id": replica.replica_id,
                "instance_id": replica.instance_id,
                "engine_id": replica.engine_id,
                "url": replica.url,
            }
            db.execute(insert(table_of(ReplicaRow)).values(**row, expires_at=_NOW + lease_sec))
            return True

        return await self._run(change)

    async def renew(self, replica_id: str, lease_sec: float) -> bool:
        """Let a replica live on; False if it is gone, and holds nothing any more."""
        change = (
            update(ReplicaRow)
            .where(ReplicaRow.replica_id == replica_id)
            .values(expires_at=_NOW + lease_sec)
            .execution_options(synchronize_session=False)
        )
        return await self._run(lambda db: count(db.execute(change)) > 0)

    async def leave(self, replica_id: str) -> None:
        """Remove a replica: its sessions are free."""
        await self._run(lambda db: _bury(db, ReplicaRow.replica_id == replica_id))

    async def bury(self, patience_sec: float) -> int:
        """Remove the replicas that have expired; how many. A renewal that is under way comes first.

        None where the database has stood still for `patience_sec`: then nobody could renew.
        """

        def change(db: Session) -> int:
            asked_at = time.monotonic()
            buried = _bury(db, ReplicaRow.expires_at <= _NOW)
            if time.monotonic() - asked_at > patience_sec:
                db.rollback()
                return 0
            return buried

        return await self._run(change)

    async def url_of(self, replica_id: str) -> str | None:
        """Where a replica is reached; None if it is gone."""
        query = select(ReplicaRow.url).where(ReplicaRow.replica_id == replica_id)
        return await self._run(lambda db: db.scalar(query))

    async def is_there(self, url: str) -> bool:
        """Whether a replica that is reached there lives."""
        query = select(ReplicaRow.replica_id).where(ReplicaRow.url == url).limit(1)
        return await self._run(lambda db: db.scalar(query)) is not None

    # Who holds a session

    async def holder_of(self, session_id: str, owner: str) -> tuple[str | None, str | None] | None:
        """Who holds an owner's live session, and its URL; None if there is no such session."""
        query = (
            select(SessionRow.holder, ReplicaRow.url)
            .outerjoin(ReplicaRow, ReplicaRow.replica_id == SessionRow.holder)
            .where(SessionRow.session_id == session_id, SessionRow.owner == owner, _LIVE)
        )
        row = await self._run(lambda db: db.execute(query).first())
        return None if row is None else (row[0], row[1])

    async def take(
        self, replica: ReplicaRecord, most: int, session_id: str | None = None
    ) -> list[SessionRecord]:
        """Hold free sessions that this replica can reach, oldest first, but for those that others take."""
        reached = or_(
            ContainerRow.engine_id == replica.engine_id,
            and_(ContainerRow.engine_id.is_(None), ContainerRow.instance_id == replica.instance_id),
        )
        query = (
            select(SessionRow)
            .join(ContainerRow, ContainerRow.container_id == SessionRow.container_id)
            .where(_FREE, reached)
            .order_by(SessionRow.created_at)
            .limit(most)
            .with_for_update(of=SessionRow, skip_locked=True)
        )
        if session_id is not None:
            query = query.where(SessionRow.session_id == session_id)

        def change(db: Session) -> list[SessionRecord]:
            if not _lives(db, replica.replica_id):
                return []
            rows = db.scalars(query).all()
            for row in rows:
                row.holder = replica.replica_id
            db.flush()
            return [as_record(SessionRecord, row) for row in rows]

        return await self._run(change)

    async def add_session(self, session: SessionRecord, most: int) -> bool:
        """Remember a session; False if its owner has ``most`` already, wherever (0: no limit).

        Raises `SessionMoving` if its holder has been taken for dead: nobody would ever end it.
        """
        live = select(func.count()).where(SessionRow.owner == session.owner, _LIVE)
        lock = select(func.pg_advisory_xact_lock(func.hashtext(f"sessions of {session.owner}")))

        def change(db: Session) -> bool:
            if most:
                db.execute(lock)
                if (db.scalar(live) or 0) >= most:
                    return False
            if session.holder is None or not _lives(db, session.holder):
                raise SessionMoving
            db.execute(insert(table_of(SessionRow)).values(**asdict(session)))
            return True

        return await self._run(change)

    async def count_sessions(self, owner: str) -> int:
        """How many live sessions an owner has, wherever."""
        query = select(func.count()).where(SessionRow.owner == owner, _LIVE)
        return await self._run(lambda db: db.scalar(query) or 0)

    async def kept_containers(self) -> list[str]:
        """Ids of the containers of all live sessions, whoever holds them."""
        query = select(SessionRow.container_id).where(_LIVE)
        return await self._run(lambda db: list(db.scalars(query)))

    async def overdue(self, lease_sec: float) -> tuple[list[str], list[str]]:
        """Free sessions that have expired, and those free for so long that their containers have ended.

        So have those that their holders would have ended long ago if they knew them: the answer to
        what added such a row was lost.
        """
        now = select(_NOW).scalar_subquery()
        is_nobodys = or_(SessionRow.holder.is_(None), SessionRow.expires_at <= now - _FORGOTTEN_SEC)
        expired = select(SessionRow.session_id).where(_LIVE, SessionRow.expires_at <= now, is_nobodys)
        lost = select(SessionRow.session_id).where(_FREE, SessionRow.free_since <= now - lease_sec)
        return await self._run(lambda db: (list(db.scalars(expired)), list(db.scalars(lost))))

    # Turns

    async def turn(self, what: str, interval_sec: float) -> bool:
        """Whether it is for the caller to do something that one replica does every so often."""
        key = f"turn:{what}"
        row = postgresql.insert(table_of(InstanceRow)).values(key=key, value="0").on_conflict_do_nothing()
        mine = (
            select(InstanceRow)
            .where(InstanceRow.key == key, cast(InstanceRow.value, Float(53)) <= _NOW - interval_sec)
            .with_for_update(skip_locked=True)
        )

        def change(db: Session) -> bool:
            db.execute(row)
            found = db.scalar(mine)
            if found is None:
                return False
            found.value = str(db.scalar(select(_NOW)))
            return True

        return await self._run(change)


def _lives(db: Session, replica_id: str) -> bool:
    """Whether a replica lives, and goes on to until the transaction ends."""
    lock = {"read": True, "key_share": True}
    return db.get(ReplicaRow, replica_id, with_for_update=lock) is not None


def _bury(db: Session, *which: ColumnElement[bool]) -> int:
    """Remove replicas; their sessions are free, and their other containers end by their leases."""
    gone = delete(ReplicaRow).where(*which).returning(ReplicaRow.replica_id, ReplicaRow.instance_id)
    rows = db.execute(gone.execution_options(synchronize_session=False)).all()
    if not rows:
        return 0
    free = (
        update(SessionRow)
        .where(_LIVE, SessionRow.holder.in_([row[0] for row in rows]))
        .values(holder=None, free_since=_NOW)
    )
    kept = select(SessionRow.container_id).where(_LIVE)
    ended = (
        update(ContainerRow)
        .where(
            ContainerRow.instance_id.in_([row[1] for row in rows]),
            ContainerRow.removed_at.is_(None),
            ContainerRow.container_id.not_in(kept),
        )
        .values(removed_at=_NOW, state="removed")
    )
    for change in (free, ended):
        db.execute(change.execution_options(synchronize_session=False))
    return len(rows)
