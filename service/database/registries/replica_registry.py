"""Rows of replicas, and which replica holds a session.

A replica is alive as long as it has a row. One transaction removes an expired row and frees the sessions
of that replica. So a replica that can renew its lease is alive, whatever its clock shows. All times are
the database's.

This works only on PostgreSQL, because the replicas agree by its row locks.
"""

import time
from dataclasses import asdict
from typing import Final

from sqlalchemy import ColumnElement, Float, and_, cast, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from service.database.database import Database, as_record, count
from service.database.registries.records import ReplicaRecord
from service.database.tables import ContainerRow, InstanceRow, ReplicaRow, SessionRow, table_of
from sessions.errors import SessionMoving
from sessions.records import SessionRecord

# Evaluated for each row, also after a wait for a lock. In a subquery it is evaluated once, for the index.
_NOW: Final[ColumnElement[float]] = cast(func.extract("epoch", func.clock_timestamp()), Float(53))
_FORGOTTEN_SEC: Final = 60.0
"""Seconds after which an expired session must have been forgotten by its holder, which ends it in time."""
_LIVE: Final = SessionRow.ended_at.is_(None)
_FREE: Final = and_(_LIVE, SessionRow.holder.is_(None))


class ReplicaRegistry:
    """The replicas in the registry. Each method is one transaction, with the errors of ``Database.run``."""

    def __init__(self, database: Database) -> None:
        self._run = database.run

    # The lease of a replica

    async def join(self, replica: ReplicaRecord, lease_sec: float) -> bool:
        """Add a replica; return False if a live one has the same instance id."""

        def change(db: Session) -> bool:
            _remove(db, ReplicaRow.instance_id == replica.instance_id, ReplicaRow.expires_at <= _NOW)
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
        """Renew the lease of a replica; return False if it has no row, and so holds no session."""
        change = (
            update(ReplicaRow)
            .where(ReplicaRow.replica_id == replica_id)
            .values(expires_at=_NOW + lease_sec)
            .execution_options(synchronize_session=False)
        )
        return await self._run(lambda db: count(db.execute(change)) > 0)

    async def leave(self, replica_id: str) -> None:
        """Remove a replica and free its sessions."""
        await self._run(lambda db: _remove(db, ReplicaRow.replica_id == replica_id))

    async def remove_expired(self, patience_sec: float) -> int:
        """Remove replicas whose leases have run out, after renewals that are under way; return their number.

        Remove none if the transaction took longer than `patience_sec`, because then no replica could renew.
        """

        def change(db: Session) -> int:
            asked_at = time.monotonic()
            removed = _remove(db, ReplicaRow.expires_at <= _NOW)
            if time.monotonic() - asked_at > patience_sec:
                db.rollback()
                return 0
            return removed

        return await self._run(change)

    async def url_of(self, replica_id: str) -> str | None:
        """Return the URL of a replica; None if it is gone."""
        query = select(ReplicaRow.url).where(ReplicaRow.replica_id == replica_id)
        return await self._run(lambda db: db.scalar(query))

    async def is_there(self, url: str) -> bool:
        """Return whether the replica at a URL is alive."""
        query = select(ReplicaRow.replica_id).where(ReplicaRow.url == url).limit(1)
        return await self._run(lambda db: db.scalar(query)) is not None

    # Who holds a session

    async def holder_of(self, session_id: str, owner: str) -> tuple[str | None, str | None] | None:
        """Return the holder of the owner's live session, and its URL; None if there is no such session.

        A free session has neither a holder nor a URL.
        """
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
        """Take free sessions that this replica can reach, oldest first; skip those that others are taking."""
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
            if not _is_alive(db, replica.replica_id):
                return []
            rows = db.scalars(query).all()
            for row in rows:
                row.holder = replica.replica_id
            db.flush()
            return [as_record(SessionRecord, row) for row in rows]

        return await self._run(change)

    async def add_session(self, session: SessionRecord, limit: int) -> bool:
        """Add a session; return False if its owner has ``limit`` live ones on all replicas (0: no limit).

        Raises:
            SessionMoving: the holder's row was removed, so no replica would ever end the session.
        """
        live = select(func.count()).where(SessionRow.owner == session.owner, _LIVE)
        lock = select(func.pg_advisory_xact_lock(func.hashtext(f"sessions of {session.owner}")))

        def change(db: Session) -> bool:
            if limit:
                db.execute(lock)
                if (db.scalar(live) or 0) >= limit:
                    return False
            if session.holder is None or not _is_alive(db, session.holder):
                raise SessionMoving
            db.execute(insert(table_of(SessionRow)).values(**asdict(session)))
            return True

        return await self._run(change)

    async def count_sessions(self, owner: str) -> int:
        """Return the number of an owner's live sessions on all replicas."""
        query = select(func.count()).where(SessionRow.owner == owner, _LIVE)
        return await self._run(lambda db: db.scalar(query) or 0)

    async def kept_containers(self) -> list[str]:
        """Return the ids of the containers of all live sessions on all replicas."""
        query = select(SessionRow.container_id).where(_LIVE)
        return await self._run(lambda db: list(db.scalars(query)))

    async def overdue(self, lease_sec: float) -> tuple[list[str], list[str]]:
        """Return the ids of sessions that no replica will end: expired ones, and those without a container.

        A session counts as expired also if its holder should have ended it long ago. The holder does not know
        the session when the response to its INSERT was lost.

        Args:
            lease_sec: seconds after which a free session's container has ended.
        """
        now = select(_NOW).scalar_subquery()
        has_no_holder = or_(SessionRow.holder.is_(None), SessionRow.expires_at <= now - _FORGOTTEN_SEC)
        expired = select(SessionRow.session_id).where(_LIVE, SessionRow.expires_at <= now, has_no_holder)
        lost = select(SessionRow.session_id).where(_FREE, SessionRow.free_since <= now - lease_sec)
        return await self._run(lambda db: (list(db.scalars(expired)), list(db.scalars(lost))))

    # Periodic work

    async def turn(self, what: str, interval_sec: float) -> bool:
        """Return whether the caller is to do work that one replica does every `interval_sec` seconds."""
        key = f"turn:{what}"
        row = postgresql.insert(table_of(InstanceRow)).values(key=key, value="0").on_conflict_do_nothing()
        due = (
            select(InstanceRow)
            .where(InstanceRow.key == key, cast(InstanceRow.value, Float(53)) <= _NOW - interval_sec)
            .with_for_update(skip_locked=True)
        )

        def change(db: Session) -> bool:
            db.execute(row)
            found = db.scalar(due)
            if found is None:
                return False
            found.value = str(db.scalar(select(_NOW)))
            return True

        return await self._run(change)


def _is_alive(db: Session, replica_id: str) -> bool:
    """Return whether a replica has a row, and keep the row until the transaction ends."""
    lock = {"read": True, "key_share": True}
    return db.get(ReplicaRow, replica_id, with_for_update=lock) is not None


def _remove(db: Session, *which: ColumnElement[bool]) -> int:
    """Remove replicas and free their sessions. Their other containers end by their own leases."""
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
        .values(removed_at=_NOW, state="removed", token="", kernel_key="")
    )
    for change in (free, ended):
        db.execute(change.execution_options(synchronize_session=False))
    return len(rows)
