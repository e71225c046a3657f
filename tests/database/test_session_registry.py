"""Sessions and cells on real SQLite and PostgreSQL: they survive, end once, older registries gain them."""

import math
import uuid
from dataclasses import asdict, replace
from typing import Any

import pytest
from alembic import command
from sqlalchemy import inspect, text

from service.database import migrations
from service.database.execution_registry import ExecutionRegistry
from service.database.registry import Registry, make_engine
from service.database.session_registry import SessionRegistry
from sessions.errors import RegistryUnavailable
from sessions.models import JsonObject
from sessions.records import (
    ONE_TENANT,
    CellRecord,
    ContainerRecord,
    ExecutionRecord,
    SessionRecord,
    StoredFile,
)
from tests.support.databases import execute, insert


@pytest.fixture
def url(database_url: str) -> str:
    """Where a registry that does not exist yet will be."""
    return database_url


@pytest.fixture
def sessions(registry: Registry) -> SessionRegistry:
    """The registry's sessions."""
    return SessionRegistry(registry)


def a_session(**changes: Any) -> SessionRecord:
    """A session as the service would register it."""
    record = SessionRecord(
        session_id=str(uuid.uuid4()),
        container_id=uuid.uuid4().hex * 2,
        instance_id="one",
        created_at=0.1 + 0.2,
        expires_at=900.25,
        last_used_at=1.0,
    )
    return replace(record, **changes)


def a_cell(session: SessionRecord, number: int = 1, **changes: Any) -> CellRecord:
    """A cell that has just begun."""
    record = CellRecord(
        cell_id=uuid.uuid4().hex,
        session_id=session.session_id,
        number=number,
        code="print('naïve 🐍')\n",
        state="running",
        started_at=10.5,
        timeout_ms=2000,
    )
    return replace(record, **changes)


async def reopened(url: str) -> tuple[Registry, SessionRegistry]:
    """The same database as another process would see it."""
    registry = Registry(url)
    return registry, SessionRegistry(registry)


# Sessions --------------------------------------------------------------------------------------


async def test_sessions_come_back_as_they_were(sessions: SessionRegistry, url: str) -> None:
    """Every field survives, live or ended, also in another process; an unknown id is None."""
    records = [a_session(), a_session(ended_at=5.5, end_reason="idle")]
    for record in records:
        await sessions.add_session(record)
    registry, others = await reopened(url)
    assert [await others.get_session(record.session_id, ONE_TENANT) for record in records] == records
    assert await others.get_session("nothing", ONE_TENANT) is None
    await registry.close()


async def test_live_sessions_are_this_installations_oldest_first(sessions: SessionRegistry) -> None:
    """Ended ones and those of another installation are not among them."""
    young, old = a_session(created_at=2.0), a_session(created_at=1.0)
    ended, theirs = a_session(ended_at=3.0, end_reason="deleted"), a_session(instance_id="two")
    for record in (young, old, ended, theirs):
        await sessions.add_session(record)
    assert await sessions.live_sessions("one") == [old, young]
    assert await sessions.live_sessions("two") == [theirs]
    assert await sessions.live_sessions("three") == []


async def test_an_update_changes_what_it_names(sessions: SessionRegistry) -> None:
    """And nothing else; with nothing named it only says whether the session is live."""
    record, other = a_session(), a_session()
    for session in (record, other):
        await sessions.add_session(session)
    assert await sessions.update_session(record.session_id, expires_at=2000.5) is True
    assert await sessions.update_session(record.session_id, last_used_at=0.0) is True
    assert await sessions.update_session(record.session_id) is True
    expected = replace(record, expires_at=2000.5, last_used_at=0.0)
    assert await sessions.get_session(record.session_id, ONE_TENANT) == expected
    assert await sessions.get_session(other.session_id, ONE_TENANT) == other
    assert await sessions.update_session("nothing", expires_at=1.0) is False
    assert await sessions.update_session("nothing") is False


async def test_a_session_ends_once(sessions: SessionRegistry) -> None:
    """The first reason and time stay, and an ended session cannot be extended."""
    record = a_session()
    await sessions.add_session(record)
    assert await sessions.end_session(record.session_id, "expired", 7.5) is True
    assert await sessions.end_session(record.session_id, "lost", 8.5) is False
    assert await sessions.update_session(record.session_id, expires_at=9000.0) is False
    assert await sessions.update_session(record.session_id) is False
    expected = replace(record, ended_at=7.5, end_reason="expired")
    assert await sessions.get_session(record.session_id, ONE_TENANT) == expected
    assert await sessions.end_session("nothing", "deleted", 1.0) is False


async def test_running_cells_are_lost_with_their_session(sessions: SessionRegistry) -> None:
    """Those that are done stay done, and other sessions' cells run on."""
    record, other = a_session(), a_session()
    done = a_cell(record, 1, state="done", finished_at=11.0, result={"stdout": ""})
    running, elsewhere = a_cell(record, 2), a_cell(other)
    for session in (record, other):
        await sessions.add_session(session)
    for cell in (done, running, elsewhere):
        await sessions.add_cell(cell)
    await sessions.end_session(record.session_id, "lost", 20.0)
    assert await sessions.cells(record.session_id) == [done, replace(running, state="lost", finished_at=20.0)]
    assert await sessions.running_cells(record.session_id) == []
    assert await sessions.running_cells(other.session_id) == [elsewhere]


# Cells -----------------------------------------------------------------------------------------


async def test_cells_come_back_as_they_were(sessions: SessionRegistry, url: str) -> None:
    """In the order of their numbers, with their results, also in another process."""
    record = a_session()
    await sessions.add_session(record)
    result: JsonObject = {
        "stdout": "\0 é \u2028 🐍",
        "exit_code": None,
        "duration_ms": 2**40,
        "error": {"name": "E", "value": "", "traceback": []},
        "outputs": [{"data": {"application/json": {"a": [1, 2.5, True, None, {}]}}, "metadata": {}}],
    }
    cells = [
        a_cell(record, 10, code=""),
        a_cell(record, 2, state="done", finished_at=12.5, result=result),
        a_cell(record, 1, state="lost", finished_at=11.5, code="x" * 100_000),
    ]
    for cell in cells:
        await sessions.add_cell(cell)
    registry, others = await reopened(url)
    assert await others.cells(record.session_id) == cells[::-1]
    assert await others.running_cells(record.session_id) == cells[:1]
    await registry.close()


async def test_a_session_without_cells_has_none(sessions: SessionRegistry) -> None:
    """Nothing to list, and the next number is 1."""
    record = a_session()
    await sessions.add_session(record)
    assert await sessions.cells(record.session_id) == []
    assert await sessions.running_cells(record.session_id) == []


async def test_a_cell_is_found_in_its_own_session_only(sessions: SessionRegistry) -> None:
    """An id of another session's cell is unknown here."""
    record, other = a_session(), a_session()
    for session in (record, other):
        await sessions.add_session(session)
    cell = a_cell(record)
    await sessions.add_cell(cell)
    assert await sessions.get_cell(record.session_id, cell.cell_id) == cell
    assert await sessions.get_cell(other.session_id, cell.cell_id) is None
    assert await sessions.get_cell(record.session_id, "nothing") is None


async def test_a_finished_cell_has_its_result(sessions: SessionRegistry) -> None:
    """Done is final; what was thought lost may still turn out to be done."""
    record = a_session()
    await sessions.add_session(record)
    cell = a_cell(record)
    await sessions.add_cell(cell)
    assert await sessions.finish_cell(cell.cell_id, "lost", 20.0, None) is True
    lost = replace(cell, state="lost", finished_at=20.0)
    assert await sessions.get_cell(record.session_id, cell.cell_id) == lost
    assert await sessions.finish_cell(cell.cell_id, "done", 21.0, {"exit_code": 0}) is True
    assert await sessions.finish_cell(cell.cell_id, "lost", 22.0, None) is False
    done = replace(cell, state="done", finished_at=21.0, result={"exit_code": 0})
    assert await sessions.get_cell(record.session_id, cell.cell_id) == done
    assert await sessions.running_cells(record.session_id) == []
    assert await sessions.finish_cell("nothing", "done", 1.0, {}) is False


async def test_a_result_may_be_large(sessions: SessionRegistry) -> None:
    """15 MB of it, of characters that JSON spells in six."""
    record = a_session()
    await sessions.add_session(record)
    cell = a_cell(record)
    await sessions.add_cell(cell)
    result = {"stdout": "é" * 2_500_000, "outputs": [{"data": {"image/png": "iVBO" * 1_250_000}}]}
    await sessions.finish_cell(cell.cell_id, "done", 1.0, result)
    found = await sessions.get_cell(record.session_id, cell.cell_id)
    assert found is not None and found.result == result


async def test_no_result_is_null_in_the_database(sessions: SessionRegistry, url: str) -> None:
    """And a result is plain JSON text, for whoever reads the database by hand."""
    record = a_session()
    await sessions.add_session(record)
    await sessions.add_cell(a_cell(record, 1))
    await sessions.add_cell(a_cell(record, 2, state="done", result={"stdout": "é"}))
    rows = execute(url, "SELECT CAST(result AS TEXT) FROM cells ORDER BY number")
    assert rows == [(None,), ('{"stdout": "\\u00e9"}',)]


async def test_a_cell_needs_a_session(sessions: SessionRegistry) -> None:
    """The database refuses a cell of a session that is not there."""
    with pytest.raises(RegistryUnavailable) as caught:
        await sessions.add_cell(a_cell(a_session()))
    assert "foreign key" in caught.value.reason.lower()


# With the rest of the registry -----------------------------------------------------------------


def a_container(**changes: Any) -> ContainerRecord:
    """A container as the pool would register it."""
    record = ContainerRecord(
        container_id=uuid.uuid4().hex * 2,
        name="kernel-1",
        instance_id="one",
        state="running",
        created_at=1.0,
        address="127.0.0.1",
        supervisor_port=32768,
        shell_port=32769,
        iopub_port=32770,
        token="token",
        kernel_key="key",
    )
    return replace(record, **changes)


async def test_a_new_kernel_has_a_new_key(registry: Registry) -> None:
    """Of its container only; a container that is gone is still found, an unknown one is None."""
    record, other = a_container(), a_container()
    for container in (record, other):
        await registry.add_container(container)
    await registry.update_container_key(record.container_id, "new key")
    await registry.update_container_key("nothing", "new key")
    assert await registry.get_container(record.container_id) == replace(record, kernel_key="new key")
    assert await registry.get_container(other.container_id) == other
    await registry.container_removed(other.container_id, 5.0)
    assert await registry.get_container(other.container_id) == replace(other, state="removed", removed_at=5.0)
    assert await registry.get_container("nothing") is None


async def test_sessions_that_ended_long_ago_are_forgotten(
    registry: Registry, sessions: SessionRegistry, url: str
) -> None:
    """With their cells; live ones stay however old, and so do those that ended lately."""
    live = a_session()
    late, old = (a_session(ended_at=at, end_reason="expired") for at in (100.0, 99.9))
    for record in (live, late, old):
        await sessions.add_session(record)
        await sessions.add_cell(a_cell(record))
    assert await registry.prune(before=100.0) == 1
    assert await registry.prune(before=math.inf) == 1
    assert await sessions.get_session(old.session_id, ONE_TENANT) is None
    assert await sessions.get_session(live.session_id, ONE_TENANT) == live
    rows = execute(url, "SELECT session_id FROM cells")
    assert rows == [(live.session_id,)]


async def test_a_session_made_before_keys_belongs_to_the_one_tenant(url: str) -> None:
    """It is there for who has no key, or the key of that name, and for nobody else."""
    record = a_session()
    engine = make_engine(url)
    with engine.begin() as connection:
        command.upgrade(migrations.config_for(connection), "0002")
    values = asdict(record)
    del values["owner"], values["holder"]
    engine.dispose()
    insert(url, "sessions", **values)

    registry, sessions = await reopened(url)
    await registry.migrate()
    assert await sessions.live_sessions("one") == [replace(record, owner=ONE_TENANT)]
    assert await sessions.get_session(record.session_id, ONE_TENANT) == record
    assert await sessions.get_session(record.session_id, "alice") is None
    await registry.close()


async def test_a_registry_of_the_first_revision_keeps_what_it_has(url: str) -> None:
    """Files, executions, containers and the instance's name stay; they belong to the one tenant."""
    file = StoredFile(str(uuid.uuid4()), "a.csv", 3, "0" * 64, "text/csv", 1.0)
    execution = ExecutionRecord(uuid.uuid4().hex, 1.0, 2.0, "ok", 0, False, 1000, 4, 0, 1, 0)
    container = a_container()
    engine = make_engine(url)
    with engine.begin() as connection:
        command.upgrade(migrations.config_for(connection), "0001")
        for table, values in (
            ("files", asdict(file)),
            ("executions", asdict(execution)),
            ("containers", asdict(container)),
            ("instance", {"key": "instance_id", "value": "its name"}),
        ):
            first = inspect(connection).get_columns(table)
            row = {column["name"]: values[column["name"]] for column in first}
            places = ", ".join(f":{name}" for name in row)
            connection.execute(text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})"), row)
    engine.dispose()

    registry, sessions = await reopened(url)
    await registry.migrate()
    assert await registry.get_file(file.file_id, ONE_TENANT) == file
    assert await ExecutionRegistry(registry).get(execution.execution_id, ONE_TENANT) == execution
    assert await registry.live_containers("one") == [container]
    assert await registry.instance_id() == "its name"
    record = a_session(container_id=container.container_id)
    await sessions.add_session(record)
    await sessions.add_cell(a_cell(record))
    assert await sessions.live_sessions("one") == [record]
    assert await registry.prune(before=10.0) == 1
    await registry.close()
