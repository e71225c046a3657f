"""The registry's id, and the deletion of old rows, on real SQLite and PostgreSQL."""

import math

import pytest

from service.database.database import Database
from service.database.installation import prune, registry_id
from service.database.registries.container_registry import ContainerRegistry
from service.database.registries.execution_registry import ExecutionRegistry
from service.database.registries.file_registry import FileRegistry
from service.database.registries.session_registry import SessionRegistry
from sessions.records import ONE_TENANT
from tests.support.databases import execute
from tests.support.records import BOX, cell, container, execution, session, stored_file


@pytest.fixture
def url(database_url: str) -> str:
    """The URL of a registry that does not exist yet."""
    return database_url


async def test_registry_keeps_its_id(database: Database, url: str) -> None:
    """The first start makes it; later ones read it."""
    made = await registry_id(database)
    assert len(made) == 32
    other = Database(url)
    assert await registry_id(other) == made
    await other.close()


async def test_prune_deletes_what_ended_long_ago(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Executions and containers are deleted, some at a time; files and live containers stay."""
    monkeypatch.setattr("service.database.installation._ROWS_AT_ONCE", 2)
    containers = ContainerRegistry(database, "one", BOX)
    live, removed = container(), container()
    for record in (live, removed):
        await containers.add(record)
    await containers.mark_removed(removed.container_id, 50.0)
    for finished_at in (50.0, 150.0, 60.0, 70.0, 80.0, 90.0):
        await ExecutionRegistry(database).add(execution(finished_at))
    await FileRegistry(database).add(stored_file(1.0))
    assert await prune(database, before=100.0) == 6
    assert await prune(database, before=100.0) == 0
    assert await containers.live() == [live.container_id]
    assert len(await FileRegistry(database).all_ids()) == 1
    rows = execute(url, "SELECT finished_at, stdout_bytes, exit_code FROM executions")
    assert rows == [(150.0, 2**33, None)]


async def test_prune_deletes_ended_sessions_with_their_cells(database: Database, url: str) -> None:
    """Live sessions of any age stay, and so do those that ended recently."""
    sessions = SessionRegistry(database)
    live = session()
    late, old = (session(ended_at=at, end_reason="expired") for at in (100.0, 99.9))
    for record in (live, late, old):
        await sessions.add_session(record)
        await sessions.add_cell(cell(record))
    assert await prune(database, before=100.0) == 1
    assert await prune(database, before=math.inf) == 1
    assert await sessions.get_session(old.session_id, ONE_TENANT) is None
    assert await sessions.get_session(live.session_id, ONE_TENANT) == live
    assert execute(url, "SELECT session_id FROM cells") == [(live.session_id,)]
