"""Tests of the replicas' rows in the database: leases, holders of sessions, turns and claims."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from service.database.connection import make_engine
from service.database.database import Database
from service.database.errors import RegistryInUse
from service.database.registries.container_registry import ContainerRegistry
from service.database.registries.file_registry import FileRegistry
from service.database.registries.records import ReplicaRecord
from service.database.registries.replica_registry import ReplicaRegistry
from service.database.registries.session_registry import SessionRegistry
from service.database.service_lock import hold_database
from service.files.open import open_storage
from service.files.quota import StorageQuota
from service.files.store import FileStore
from service.replicas.errors import InstanceInUse
from service.replicas.lease import ReplicaLease
from service.replicas.leased_replica import LeasedReplica
from service.settings.values import MIB
from sessions.errors import SessionElsewhere, SessionMoving, StorageQuotaExceeded
from sessions.records import ContainerRecord, SessionRecord
from tests.support.databases import execute
from tests.support.postgres import Postgres
from tests.support.records import BOX, container
from tests.support.settings import make_settings

ENGINE = "the engine"


@pytest.fixture
def url(postgres: Postgres) -> str:
    """Return the URL of an empty database."""
    return postgres.new()


@pytest.fixture
def rows(database: Database) -> ReplicaRegistry:
    """Return the replicas' table of that database."""
    return ReplicaRegistry(database)


def replica(engine_id: str = ENGINE, instance_id: str = "") -> ReplicaRecord:
    """Return a replica, as it registers at one start."""
    name = uuid.uuid4().hex
    return ReplicaRecord(name, instance_id or name, engine_id, f"http://{name}")


async def add_session(
    database: Database, holder: ReplicaRecord | None, engine_id: str = ENGINE, **changes: object
) -> SessionRecord:
    """Register a live session with its own container."""
    box: ContainerRecord = container(engine_id=engine_id)
    await ContainerRegistry(database, "one", BOX).add(box)
    now = time.time()
    record = SessionRecord(
        session_id=str(uuid.uuid4()),
        container_id=box.container_id,
        instance_id=box.instance_id,
        created_at=now,
        expires_at=now + 600,
        last_used_at=now,
        holder=None if holder is None else holder.replica_id,
    )
    record = replace(record, **changes)  # type: ignore[arg-type]
    await SessionRegistry(database).add_session(record)
    return record


async def test_a_free_session_is_taken_by_one_replica(
    database: Database, rows: ReplicaRegistry, url: str
) -> None:
    """Many attempts by the connections of two processes, for one session or for all, give one holder."""
    pair = [replica(), replica()]
    for each in pair:
        assert await rows.join(each, 60)
    others = Database(url)
    both = [rows, ReplicaRegistry(others)]
    one = await add_session(database, None)
    tries = [both[n % 2].take(pair[n % 2], 4, one.session_id) for n in range(12)]
    taken = [records for records in await asyncio.gather(*tries) if records]
    assert len(taken) == 1 and taken[0][0].session_id == one.session_id
    many = {(await add_session(database, None)).session_id for _ in range(20)}
    got = await asyncio.gather(*(both[n % 2].take(pair[n % 2], 3) for n in range(20)))
    ids = [record.session_id for records in got for record in records]
    assert sorted(ids) == sorted(many)
    await others.close()


async def test_sessions_of_a_dead_replica_become_free(database: Database, rows: ReplicaRegistry) -> None:
    """The sessions become free after the lease, not while it is renewed, and only for the same engine."""
    dead, alive, far = replica(), replica(), replica(engine_id="another engine")
    for one, lease_sec in ((dead, 0.2), (alive, 60), (far, 60)):
        assert await rows.join(one, lease_sec)
    session = await add_session(database, dead)
    assert await rows.remove_expired(60) == 0
    assert await rows.take(alive, 4) == []
    await asyncio.sleep(0.3)
    assert await rows.renew(dead.replica_id, 0.2), (
        "no other replica has removed it, so it can renew its lease"
    )
    await asyncio.sleep(0.3)
    assert await rows.remove_expired(60) == 1
    assert not await rows.renew(dead.replica_id, 60)
    assert await rows.take(dead, 4) == [], "the dead take nothing"
    assert await rows.take(far, 4) == []
    (taken,) = await rows.take(alive, 4)
    assert (taken.session_id, taken.holder) == (session.session_id, alive.replica_id)
    await rows.leave(alive.replica_id)
    assert await rows.holder_of(session.session_id, session.owner) == (None, None)


async def test_a_dead_replica_cannot_open_a_session(database: Database, rows: ReplicaRegistry) -> None:
    """No replica would take such a session, and none would end it."""
    dead = replica()
    await rows.join(dead, 60)
    record = replace(await add_session(database, dead), session_id=str(uuid.uuid4()))
    await rows.leave(dead.replica_id)
    with pytest.raises(SessionMoving):
        await rows.add_session(record, 0)
    assert await rows.count_sessions(record.owner) == 1


async def test_a_suspended_database_ends_no_lease(rows: ReplicaRegistry, url: str) -> None:
    """Live replicas could not renew meanwhile, and renew as soon as the database answers."""
    slow = replica()
    await rows.join(slow, 0)
    engine = make_engine(url)
    with engine.begin() as held:
        held.execute(text("SELECT * FROM replicas FOR UPDATE"))
        burying = asyncio.create_task(rows.remove_expired(0.2))
        await asyncio.sleep(0.5)
    assert await burying == 0
    assert await rows.renew(slow.replica_id, 0)
    assert await rows.remove_expired(60) == 1
    engine.dispose()


async def test_lookup_returns_the_holder_of_a_session(database: Database, rows: ReplicaRegistry) -> None:
    """A session has a holder, none for now, or is not found. Another owner's session is not found."""
    async with ReplicaLease(rows, replica(), 60) as lease, ReplicaLease(rows, replica(), 60) as there:
        here = LeasedReplica(lease, rows, SessionRegistry(database), 60)
        theirs = await add_session(database, there.replica)
        with pytest.raises(SessionElsewhere) as caught:
            await here.find(theirs.session_id, theirs.owner)
        assert caught.value.url == there.replica.url
        assert await here.find(theirs.session_id, "somebody") is None
        far = await add_session(database, None, engine_id="another")
        with pytest.raises(SessionMoving):
            await here.find(far.session_id, far.owner)
        free = await add_session(database, None)
        found = await here.find(free.session_id, free.owner)
        assert found is not None and found.holder == here.holder


async def test_an_instance_id_is_used_by_one_live_replica(rows: ReplicaRegistry) -> None:
    """A second replica with the id is refused while the first is alive, or waits until its lease ends."""
    async with ReplicaLease(rows, replica(instance_id="one"), 0.5):
        with pytest.raises(InstanceInUse, match="INSTANCE_ID=one"):
            async with ReplicaLease(rows, replica(instance_id="one"), 0.5):
                pass
    assert await rows.join(replica(instance_id="one"), 1)
    async with ReplicaLease(rows, replica(instance_id="one"), 1):
        pass


async def test_a_lost_lease_is_replaced_by_a_new_one(rows: ReplicaRegistry, url: str) -> None:
    """The replica is notified that it lost its sessions, and gets a new id."""
    notified = asyncio.Event()

    async def lost() -> None:
        notified.set()

    async with ReplicaLease(rows, replica(), 0.3) as one:
        one.call_when_lost(lost)
        before = one.replica.replica_id
        execute(url, "DELETE FROM replicas")
        await asyncio.wait_for(notified.wait(), 10)
        await asyncio.sleep(1)
        assert one.is_sure and one.replica.replica_id != before


async def test_sessions_without_a_holder_end(database: Database, rows: ReplicaRegistry, url: str) -> None:
    """Expired sessions, sessions no replica can reach, and those unknown to their holder end."""
    expired = await add_session(database, None, expires_at=time.time() - 1)
    lost = await add_session(database, None, engine_id="another")
    holder = replica()
    await rows.join(holder, 60)
    kept = await add_session(database, holder, expires_at=time.time() - 1)
    forgotten = await add_session(database, holder, expires_at=time.time() - 100)
    execute(
        url,
        "UPDATE sessions SET free_since = :at WHERE session_id = :id",
        at=time.time() - 60,
        id=lost.session_id,
    )
    ended, unreached = await rows.overdue(30)
    assert set(ended) == {expired.session_id, forgotten.session_id} and kept.session_id not in ended
    assert unreached == [lost.session_id]


async def test_limit_of_sessions_holds_for_all_replicas_together(
    database: Database, rows: ReplicaRegistry
) -> None:
    """The limit of a key holds when sessions are opened at the same moment. Other keys do not wait."""
    holder = replica()
    await rows.join(holder, 60)
    record = await add_session(database, holder)

    async def add(owner: str) -> bool:
        return await rows.add_session(replace(record, session_id=str(uuid.uuid4()), owner=owner), 3)

    added = await asyncio.gather(*(add("ann") for _ in range(10)), *(add("bob") for _ in range(2)))
    assert (sum(added[:10]), sum(added[10:])) == (3, 2)
    assert await rows.count_sessions("ann") == 3


async def test_a_turn_is_given_to_one_replica(rows: ReplicaRegistry) -> None:
    """A turn is given to one of many simultaneous requests, and to one again after the turn's time."""
    for _ in range(2):
        asked = await asyncio.gather(*(rows.turn("work", 0.5) for _ in range(8)))
        assert sum(asked) == 1
        await asyncio.sleep(0.6)


async def test_stored_bytes_are_counted_together(database: Database, tmp_path: Path) -> None:
    """Bytes that one replica stores count towards the quota on the other."""
    storage = open_storage(make_settings(tmp_path).storage)
    await storage.prepare()
    stores = [
        FileStore(storage, FileRegistry(database), 2 * MIB, None, StorageQuota(MIB), is_shared=True)
        for _ in range(2)
    ]

    async def content() -> AsyncIterator[bytes]:
        yield b"x" * (600 * 1024)

    first = await stores[0].save(content(), "a", owner="ann")
    with pytest.raises(StorageQuotaExceeded):
        await stores[1].save(content(), "b", owner="ann")
    assert await stores[1].delete(first.file_id, "ann")
    await stores[0].save(content(), "c", owner="ann")
    await storage.close()


async def test_a_single_service_excludes_all_others(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replicas share the claim on a registry. A service that is no replica waits for a claim of its own."""
    monkeypatch.setattr("service.database.service_lock._WAIT_SEC", 0.5)
    other, in_use = Database(url), RegistryInUse("there")
    async with hold_database(database, in_use, shared=True), hold_database(other, in_use, shared=True):
        with pytest.raises(RegistryInUse, match="REPLICA_URL"):
            async with hold_database(Database(url), in_use, shared=False):
                pass
    async with hold_database(database, in_use, shared=False):
        with pytest.raises(RegistryInUse):
            async with hold_database(other, in_use, shared=True):
                pass
    await other.close()


END_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
)
END_ALL += "pg_backend_pid()"


async def test_a_lost_claim_is_taken_again(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim ends with its connection, as at a restart of the server. No other service gets it then."""
    monkeypatch.setattr("service.database.service_lock._WAIT_SEC", 0.5)
    monkeypatch.setattr("service.database.service_lock._CHECK_SEC", 0.05)
    other, in_use = Database(url), RegistryInUse("there")
    async with hold_database(database, in_use, shared=False):
        execute(url, END_ALL)
        await asyncio.sleep(0.5)
        with pytest.raises(RegistryInUse):
            async with hold_database(other, in_use, shared=True):
                pass
    await other.close()


async def test_a_claim_taken_by_another_service_is_reported(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two services that are no replicas, the slower one gets an error and stops working."""
    monkeypatch.setattr("service.database.service_lock._CHECK_SEC", 0.3)
    other, in_use, lost = Database(url), RegistryInUse("there"), asyncio.Event()
    async with hold_database(database, in_use, shared=False, on_lost=lost.set):
        execute(url, END_ALL)
        async with hold_database(other, in_use, shared=False), asyncio.timeout(10):
            await lost.wait()
    await other.close()
