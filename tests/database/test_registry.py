"""The registry on real SQLite and PostgreSQL: records survive, pages are complete, no schema drifts."""

import asyncio
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command

from service.database import migrations
from service.database.errors import InvalidCursor, MigrationFailed, MigrationsMissing, RegistryTooNew
from service.database.execution_registry import ExecutionRegistry
from service.database.registry import Registry, make_engine
from sessions.errors import FileNotFound, RegistryUnavailable
from sessions.records import ONE_TENANT, ContainerRecord, ExecutionRecord, StoredFile
from tests.support.databases import execute
from tests.support.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def url(database_url: str) -> str:
    """Where a registry that does not exist yet will be."""
    return database_url


def stored_file(created_at: float = 1.0, **changes: object) -> StoredFile:
    """A file as the store would register it."""
    file = StoredFile(
        file_id=str(uuid.uuid4()),
        filename="naïve name\u202e.csv",
        size_bytes=2**40,
        sha256="0" * 64,
        media_type="text/csv",
        created_at=created_at,
    )
    return replace(file, **changes)  # type: ignore[arg-type]


def container(**changes: object) -> ContainerRecord:
    """A container as the pool would register it."""
    record = ContainerRecord(
        container_id=uuid.uuid4().hex * 2,
        name="kernel-1",
        instance_id="one",
        state="ready",
        created_at=time.time(),
        address="127.0.0.1",
        supervisor_port=32768,
        shell_port=32769,
        iopub_port=32770,
        token="secret-token",
        kernel_key="secret-key",
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def execution(finished_at: float) -> ExecutionRecord:
    """An execution as the executor would register it."""
    return ExecutionRecord(
        execution_id=uuid.uuid4().hex,
        created_at=finished_at - 1,
        finished_at=finished_at,
        outcome="timeout",
        exit_code=None,
        timed_out=True,
        duration_ms=1000,
        stdout_bytes=2**33,
        stderr_bytes=0,
        files_in=1,
        files_out=2,
    )


# Records ---------------------------------------------------------------------------------------


async def test_files_come_back_as_they_were(registry: Registry, url: str) -> None:
    """Every field survives, also in another process's registry of the same database."""
    files = [
        stored_file(time.time(), expires_at=time.time() + 0.1, origin="output", execution_id="e"),
        stored_file(0.1 + 0.2),
    ]
    for file in files:
        await registry.add_file(file)
    other = Registry(url)
    assert [await other.get_file(file.file_id, ONE_TENANT) for file in files] == files
    await other.close()


async def test_an_unknown_file_is_not_found(registry: Registry) -> None:
    """The error names the id; deleting what is not there is None."""
    with pytest.raises(FileNotFound) as caught:
        await registry.get_file("nothing", ONE_TENANT)
    assert caught.value.file_id == "nothing"
    assert await registry.delete_file("nothing") is None


async def test_a_deleted_file_is_forgotten(registry: Registry) -> None:
    """It is given back once, then None."""
    file = stored_file()
    await registry.add_file(file)
    assert await registry.delete_file(file.file_id) == file
    assert await registry.delete_file(file.file_id) is None
    assert await registry.all_file_ids() == set()


async def test_pages_give_every_file_once(registry: Registry) -> None:
    """Also when many were stored at the same moment, whatever the size of a page."""
    files = [stored_file(created_at) for created_at in (3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 0.1 + 0.2)]
    for file in files:
        await registry.add_file(file)
    expected = sorted(files, key=lambda file: (file.created_at, file.file_id))
    assert (await registry.list_files(ONE_TENANT)).files == tuple(expected)
    for limit in range(1, 9):
        seen: list[StoredFile] = []
        page = await registry.list_files(ONE_TENANT, limit)
        while page.next is not None:
            assert len(page.files) == limit
            seen.extend(page.files)
            page = await registry.list_files(ONE_TENANT, limit, page.next)
        assert [*seen, *page.files] == expected


async def test_expired_files_are_not_listed(registry: Registry) -> None:
    """A file expires at its moment, not after it; without a moment, never."""
    old, new = stored_file(1.0, expires_at=10.0), stored_file(2.0, expires_at=10.5)
    forever = stored_file(3.0)
    for file in (old, new, forever):
        await registry.add_file(file)
    assert (await registry.list_files(ONE_TENANT, now=10.0)).files == (new, forever)
    assert await registry.expired_files(10.0) == [old.file_id]
    assert await registry.expired_files(9.9) == []


@pytest.mark.parametrize("cursor", ["", "x", "é", "bmFuIDE", "MS4wIHg", "=" * 9, "A" * 201])
async def test_only_a_cursor_is_a_cursor(registry: Registry, cursor: str) -> None:
    """Anything else is refused, not guessed."""
    with pytest.raises(InvalidCursor):
        await registry.list_files(ONE_TENANT, 5, cursor)


async def test_known_tells_files_from_others(registry: Registry) -> None:
    """However many ids are asked for at once."""
    file = stored_file()
    await registry.add_file(file)
    strangers = {str(uuid.uuid4()) for _ in range(2000)}
    assert await registry.known(strangers | {file.file_id}) == {file.file_id}
    assert await registry.known(set()) == set()


async def test_containers_live_until_they_are_removed(registry: Registry, url: str) -> None:
    """All that is needed to speak to a kernel again is there, for the instance that owns it."""
    mine, gone = container(created_at=1.0), container(created_at=2.0)
    theirs = container(instance_id="two")
    for record in (mine, gone, theirs):
        await registry.add_container(record)
    await registry.container_removed(gone.container_id, 5.0)
    await registry.container_removed("nothing", 5.0)
    other = Registry(url)
    assert await other.live_containers("one") == [mine]
    assert await other.live_containers("two") == [theirs]
    await other.close()


def test_secrets_are_not_shown() -> None:
    """A container in a log line tells neither its token nor its key."""
    assert "secret" not in repr(container())


async def test_old_history_is_forgotten(
    registry: Registry, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Executions and containers that ended long ago go, some at a time; files and live containers stay."""
    monkeypatch.setattr("service.database.registry._ROWS_AT_ONCE", 2)
    live, gone = container(), container()
    for record in (live, gone):
        await registry.add_container(record)
    await registry.container_removed(gone.container_id, 50.0)
    for finished_at in (50.0, 150.0, 60.0, 70.0, 80.0, 90.0):
        await ExecutionRegistry(registry).add(execution(finished_at))
    await registry.add_file(stored_file(1.0))
    assert await registry.prune(before=100.0) == 6
    assert await registry.prune(before=100.0) == 0
    assert await registry.live_containers("one") == [live]
    assert len(await registry.all_file_ids()) == 1
    rows = execute(url, "SELECT finished_at, stdout_bytes, exit_code FROM executions")
    assert rows == [(150.0, 2**33, None)]


async def test_an_instance_keeps_its_name(registry: Registry, url: str) -> None:
    """Made once and kept; a configured name is used, and changes nothing."""
    made = await registry.instance_id()
    assert len(made) == 32
    assert await registry.instance_id("configured") == "configured"
    other = Registry(url)
    assert await other.instance_id() == made
    await other.close()


# The database ----------------------------------------------------------------------------------


async def test_sqlite_is_set_up_for_a_service(tmp_path: Path) -> None:
    """Write-ahead log, patience with other writers, foreign keys."""
    with make_engine(f"sqlite:///{tmp_path / 'registry.sqlite3'}").connect() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        ]
        connection.engine.dispose()
    assert values == ["wal", 1, 5000, 1]


LOCKS = {"sqlite": "UPDATE instance SET value = value", "postgresql": "LOCK TABLE files"}


async def test_the_event_loop_does_not_wait_for_the_database(registry: Registry, url: str) -> None:
    """While another process holds a lock, calls wait and the loop goes on."""
    engine = make_engine(url)
    other = engine.connect()
    other.exec_driver_sql(LOCKS[engine.dialect.name])
    adding = asyncio.create_task(registry.add_file(stored_file()))
    ticks = 0
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        await asyncio.sleep(0.001)
        ticks += 1
    assert ticks > 30
    assert not adding.done()
    other.commit()
    other.close()
    engine.dispose()
    await adding
    assert len(await registry.all_file_ids()) == 1


async def test_parallel_calls_all_succeed(registry: Registry) -> None:
    """A burst of writes and reads is neither lost nor refused."""
    files = [stored_file(float(number)) for number in range(200)]
    await asyncio.gather(*(registry.add_file(file) for file in files))
    found = await asyncio.gather(*(registry.get_file(file.file_id, ONE_TENANT) for file in files))
    assert found == files


async def test_a_broken_database_is_told(registry: Registry, url: str) -> None:
    """The caller gets RegistryUnavailable; what the database said is its reason."""
    execute(url, "DROP TABLE files")
    with pytest.raises(RegistryUnavailable) as caught:
        await registry.list_files(ONE_TENANT)
    assert "no such table" in caught.value.reason or "does not exist" in caught.value.reason
    assert "files" not in str(caught.value)


# Migrations ------------------------------------------------------------------------------------


def test_the_tables_are_what_the_migrations_make(url: str) -> None:
    """`alembic check` finds no difference between tables.py and the newest revision."""
    engine = make_engine(url)
    migrations.upgrade(engine)
    with engine.begin() as connection:
        command.check(migrations.config_for(connection))
    engine.dispose()


def test_alembic_works_from_the_folder_of_the_code(tmp_path: Path) -> None:
    """A developer's `alembic` finds the configuration and, by the settings, the registry."""
    for arguments in (["upgrade", "head"], ["check"]):
        result = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=ROOT,
            env={"FILE_STORAGE_DIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stderr
    assert "No new upgrade operations detected" in result.stdout + result.stderr


async def test_migrating_again_changes_nothing(registry: Registry) -> None:
    """A second start keeps what there is."""
    await registry.add_file(stored_file())
    await registry.migrate()
    assert len(await registry.all_file_ids()) == 1


def test_processes_may_start_at_the_same_moment(url: str) -> None:
    """Six processes that find no database all end with the same registry."""
    code = (
        "import asyncio, sys\n"
        "from service.database.registry import Registry\n"
        "async def main():\n"
        "    registry = Registry(sys.argv[1])\n"
        "    await registry.migrate()\n"
        "    print(await registry.instance_id())\n"
        "    await registry.close()\n"
        "asyncio.run(main())\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, url], cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(6)
    ]
    names = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 6
    assert len(names) == 1


async def test_a_registry_of_a_newer_version_is_refused(url: str) -> None:
    """One sentence with the revision, and the database is left as it is."""
    registry = Registry(url)
    await registry.migrate()
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(RegistryTooNew, match="revision 9999") as caught:
        await registry.migrate()
    assert "\n" not in str(caught.value)
    await registry.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "nothing://x/y",
        "mysql://x/y",
        "postgresql://ann:of/ours@db/x",
        "sqlite:////proc/nothing/r.sqlite3",
        "sqlite:////dev/null",
    ],
)
async def test_a_database_that_cannot_be_opened_is_told(url: str) -> None:
    """A URL that is none, and a place that cannot be written, are one sentence with the setting."""

    async def open_registry() -> None:
        registry = Registry(url)
        try:
            await registry.migrate()
        finally:
            await registry.close()

    with pytest.raises(MigrationFailed, match="DATABASE_URL") as caught:
        await open_registry()
    assert "\n" not in str(caught.value)
    assert "'of'" not in str(caught.value), "a part of the password"


async def test_missing_migrations_are_told(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed without its source folder, the service says what is missing."""
    monkeypatch.setattr(migrations, "FOLDER", tmp_path / "nowhere")
    registry = Registry(url)
    with pytest.raises(MigrationsMissing, match="nowhere"):
        await registry.migrate()
    await registry.close()


# PostgreSQL ------------------------------------------------------------------------------------


async def test_what_is_sent_can_have_a_nul(registry: Registry, url: str) -> None:
    """PostgreSQL has none in text: another character is kept in its place, and nothing is refused."""
    record = replace(execution(2.0), code="a\0b")
    await ExecutionRegistry(registry).add(record)
    found = await ExecutionRegistry(registry).get(record.execution_id, ONE_TENANT)
    assert found == (record if url.startswith("sqlite") else replace(record, code="a\ufffdb"))


async def test_a_database_that_comes_back_is_used_again(postgres: Postgres) -> None:
    """While it is gone calls are told so; then they go on, on connections that were open before."""
    registry = Registry(postgres.new())
    await registry.migrate()
    file = stored_file()
    await asyncio.gather(*(registry.add_file(replace(file, file_id=str(n))) for n in range(8)))
    with postgres.gone():
        with pytest.raises(RegistryUnavailable):
            await registry.all_file_ids()
        with pytest.raises(RegistryUnavailable):
            await registry.add_file(file)
    await asyncio.gather(*(registry.all_file_ids() for _ in range(8)))
    await registry.add_file(file)
    assert len(await registry.all_file_ids()) == 9
    await registry.close()


async def test_a_database_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    """In one sentence, without the password."""
    registry = Registry(f"postgresql://somebody:secret@/nothing?host={tmp_path}")
    with pytest.raises(MigrationFailed, match="DATABASE_URL says where it is") as caught:
        await registry.migrate()
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
    await registry.close()


def test_another_driver_is_refused() -> None:
    """One is known to work."""
    with pytest.raises(MigrationFailed, match="only one for PostgreSQL"):
        Registry("postgresql+pg8000://x/y")
