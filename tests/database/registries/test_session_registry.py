"""Sessions and cells on real SQLite and PostgreSQL: they survive, end once, older registries gain them."""

from dataclasses import asdict, replace

import pytest
from alembic import command
from sqlalchemy import inspect, text

from service.database import migrations
from service.database.connection import make_engine
from service.database.database import Database
from service.database.installation import prune, registry_id
from service.database.registries.container_registry import ContainerRegistry
from service.database.registries.execution_registry import ExecutionRegistry
from service.database.registries.file_registry import FileRegistry
from service.database.registries.session_registry import SessionRegistry
from service.database.registry_key import adopt_key
from sessions.errors import RegistryUnavailable
from sessions.models import JsonObject
from sessions.records import (
    ONE_TENANT,
)
from tests.support.databases import execute, insert
from tests.support.records import BOX, all_cells, cell, container, execution, session, stored_file


@pytest.fixture
def url(database_url: str) -> str:
    """The URL of a registry that does not exist yet."""
    return database_url


@pytest.fixture
def sessions(database: Database) -> SessionRegistry:
    """The rows of sessions in an empty registry."""
    return SessionRegistry(database)


async def reopened(url: str) -> tuple[Database, SessionRegistry]:
    """Open the same database a second time, as another process would."""
    database = Database(url)
    return database, SessionRegistry(database)


# Sessions --------------------------------------------------------------------------------------


async def test_session_keeps_every_field(sessions: SessionRegistry, url: str) -> None:
    """Live and ended sessions are the same through a second connection; an unknown id is None."""
    records = [session(), session(ended_at=5.5, end_reason="idle")]
    for record in records:
        await sessions.add_session(record)
    database, others = await reopened(url)
    assert [await others.get_session(record.session_id, ONE_TENANT) for record in records] == records
    assert await others.get_session("nothing", ONE_TENANT) is None
    await database.close()


async def test_live_sessions_are_those_of_the_instance(sessions: SessionRegistry) -> None:
    """The list is oldest first, without ended sessions and those of another instance."""
    newer, older = session(created_at=2.0), session(created_at=1.0)
    ended, foreign = session(ended_at=3.0, end_reason="deleted"), session(instance_id="two")
    for record in (newer, older, ended, foreign):
        await sessions.add_session(record)
    assert await sessions.live_sessions("one") == [older, newer]
    assert await sessions.live_sessions("two") == [foreign]
    assert await sessions.live_sessions("three") == []


async def test_update_changes_only_the_values_given(sessions: SessionRegistry) -> None:
    """Without values it returns whether the session is live."""
    record, other = session(), session()
    for added in (record, other):
        await sessions.add_session(added)
    assert await sessions.update_session(record.session_id, expires_at=2000.5) is True
    assert await sessions.update_session(record.session_id, last_used_at=0.0) is True
    assert await sessions.update_session(record.session_id) is True
    expected = replace(record, expires_at=2000.5, last_used_at=0.0)
    assert await sessions.get_session(record.session_id, ONE_TENANT) == expected
    assert await sessions.get_session(other.session_id, ONE_TENANT) == other
    assert await sessions.update_session("nothing", expires_at=1.0) is False
    assert await sessions.update_session("nothing") is False


async def test_session_ends_once(sessions: SessionRegistry) -> None:
    """The first reason and time stay, and an ended session cannot be extended."""
    record = session()
    await sessions.add_session(record)
    assert await sessions.end_session(record.session_id, "expired", 7.5) is True
    assert await sessions.end_session(record.session_id, "lost", 8.5) is False
    assert await sessions.update_session(record.session_id, expires_at=9000.0) is False
    assert await sessions.update_session(record.session_id) is False
    expected = replace(record, ended_at=7.5, end_reason="expired")
    assert await sessions.get_session(record.session_id, ONE_TENANT) == expected
    assert await sessions.end_session("nothing", "deleted", 1.0) is False


async def test_end_of_a_session_marks_its_running_cells_as_lost(sessions: SessionRegistry) -> None:
    """Cells that are done stay done, and cells of other sessions go on."""
    record, other = session(), session()
    done = cell(record, 1, state="done", finished_at=11.0, result={"stdout": ""})
    running, of_other = cell(record, 2), cell(other)
    for added in (record, other):
        await sessions.add_session(added)
    for added_cell in (done, running, of_other):
        await sessions.add_cell(added_cell)
    await sessions.end_session(record.session_id, "lost", 20.0)
    assert await all_cells(sessions, record) == [done, replace(running, state="lost", finished_at=20.0)]
    assert await sessions.running_cells(record.session_id) == []
    assert await sessions.running_cells(other.session_id) == [of_other]


# Cells -----------------------------------------------------------------------------------------


async def test_cell_keeps_every_field(sessions: SessionRegistry, url: str) -> None:
    """Cells are listed by number, with their results, also through a second connection."""
    record = session()
    await sessions.add_session(record)
    result: JsonObject = {
        "stdout": "\0 é \u2028 🐍",
        "exit_code": None,
        "duration_ms": 2**40,
        "error": {"name": "E", "value": "", "traceback": []},
        "outputs": [{"data": {"application/json": {"a": [1, 2.5, True, None, {}]}}, "metadata": {}}],
    }
    cells = [
        cell(record, 10, code=""),
        cell(record, 2, state="done", finished_at=12.5, result=result),
        cell(record, 1, state="lost", finished_at=11.5, code="x" * 100_000),
    ]
    for added in cells:
        await sessions.add_cell(added)
    database, others = await reopened(url)
    assert await all_cells(others, record) == cells[::-1]
    assert await others.running_cells(record.session_id) == cells[:1]
    await database.close()


async def test_new_session_has_no_cells(sessions: SessionRegistry) -> None:
    """The lists of all cells and of running cells are empty."""
    record = session()
    await sessions.add_session(record)
    assert await all_cells(sessions, record) == []
    assert await sessions.running_cells(record.session_id) == []


async def test_cell_is_found_in_its_own_session_only(sessions: SessionRegistry) -> None:
    """The id of another session's cell is unknown."""
    record, other = session(), session()
    for added in (record, other):
        await sessions.add_session(added)
    begun = cell(record)
    await sessions.add_cell(begun)
    assert await sessions.get_cell(record.session_id, begun.cell_id) == begun
    assert await sessions.get_cell(other.session_id, begun.cell_id) is None
    assert await sessions.get_cell(record.session_id, "nothing") is None


async def test_done_cell_cannot_be_changed(sessions: SessionRegistry) -> None:
    """A lost cell can still become done, if its result comes late."""
    record = session()
    await sessions.add_session(record)
    begun = cell(record)
    await sessions.add_cell(begun)
    assert await sessions.finish_cell(begun.cell_id, "lost", 20.0, None) is True
    lost = replace(begun, state="lost", finished_at=20.0)
    assert await sessions.get_cell(record.session_id, begun.cell_id) == lost
    assert await sessions.finish_cell(begun.cell_id, "done", 21.0, {"exit_code": 0}) is True
    assert await sessions.finish_cell(begun.cell_id, "lost", 22.0, None) is False
    done = replace(begun, state="done", finished_at=21.0, result={"exit_code": 0})
    assert await sessions.get_cell(record.session_id, begun.cell_id) == done
    assert await sessions.running_cells(record.session_id) == []
    assert await sessions.finish_cell("nothing", "done", 1.0, {}) is False


async def test_result_of_15_mb_is_stored(sessions: SessionRegistry) -> None:
    """JSON writes each of its characters in six."""
    record = session()
    await sessions.add_session(record)
    begun = cell(record)
    await sessions.add_cell(begun)
    result = {"stdout": "é" * 2_500_000, "outputs": [{"data": {"image/png": "iVBO" * 1_250_000}}]}
    await sessions.finish_cell(begun.cell_id, "done", 1.0, result)
    found = await sessions.get_cell(record.session_id, begun.cell_id)
    assert found is not None and found.result == result


async def test_missing_result_is_null_in_the_database(sessions: SessionRegistry, url: str) -> None:
    """A result is plain JSON text, which people can read with SQL."""
    record = session()
    await sessions.add_session(record)
    await sessions.add_cell(cell(record, 1))
    await sessions.add_cell(cell(record, 2, state="done", result={"stdout": "é"}))
    rows = execute(url, "SELECT CAST(result AS TEXT) FROM cells ORDER BY number")
    assert rows == [(None,), ('{"stdout":"é"}',)]


async def test_cell_without_a_session_is_refused(sessions: SessionRegistry) -> None:
    """The database enforces the foreign key."""
    with pytest.raises(RegistryUnavailable) as caught:
        await sessions.add_cell(cell(session()))
    assert "foreign key" in caught.value.reason.lower()


# With the rest of the registry -----------------------------------------------------------------


async def test_session_made_before_keys_belongs_to_the_default_owner(url: str) -> None:
    """Callers with other keys do not see it."""
    record = session()
    engine = make_engine(url)
    with engine.begin() as connection:
        command.upgrade(migrations.config_for(connection), "0002")
    values = asdict(record)
    del values["owner"], values["holder"]
    engine.dispose()
    insert(url, "sessions", **values)

    database, sessions = await reopened(url)
    await database.migrate()
    assert await sessions.live_sessions("one") == [replace(record, owner=ONE_TENANT)]
    assert await sessions.get_session(record.session_id, ONE_TENANT) == record
    assert await sessions.get_session(record.session_id, "alice") is None
    await database.close()


async def test_registry_of_the_first_revision_keeps_its_rows(url: str) -> None:
    """Files, executions and containers belong to the default owner; the registry's id stays."""
    file = stored_file()
    ran = execution(2.0)
    box = container(created_at=1.0)
    engine = make_engine(url)
    with engine.begin() as connection:
        command.upgrade(migrations.config_for(connection), "0001")
        for table, values in (
            ("files", asdict(file)),
            ("executions", asdict(ran)),
            ("containers", asdict(box)),
            ("instance", {"key": "instance_id", "value": "its name"}),
        ):
            first = inspect(connection).get_columns(table)
            row = {column["name"]: values[column["name"]] for column in first}
            parameters = ", ".join(f":{name}" for name in row)
            connection.execute(text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({parameters})"), row)
    engine.dispose()

    database, sessions = await reopened(url)
    await database.migrate()
    assert await FileRegistry(database).get(file.file_id, ONE_TENANT) == file
    assert await ExecutionRegistry(database).get(ran.execution_id, ONE_TENANT) == ran
    assert not await adopt_key(database, BOX)
    assert await ContainerRegistry(database, "one", BOX).get_container(box.container_id) == box
    assert await registry_id(database) == "its name"
    record = session(container_id=box.container_id)
    await sessions.add_session(record)
    await sessions.add_cell(cell(record))
    assert await sessions.live_sessions("one") == [record]
    assert await prune(database, before=10.0) == 1
    await database.close()
