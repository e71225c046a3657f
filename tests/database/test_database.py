"""The database itself, on real SQLite and PostgreSQL: errors, threads, migrations."""

import asyncio
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command

from service.database import migrations
from service.database.connection import make_engine
from service.database.database import Database
from service.database.errors import MigrationFailed, MigrationsMissing, RegistryTooNew
from service.database.registries.execution_registry import ExecutionRegistry
from service.database.registries.file_registry import FileRegistry
from sessions.errors import RegistryUnavailable
from sessions.records import ONE_TENANT
from tests.support.databases import execute
from tests.support.postgres import Postgres
from tests.support.records import execution, stored_file

ROOT = Path(__file__).resolve().parents[2]
LOCKS = {"sqlite": "UPDATE instance SET value = value", "postgresql": "LOCK TABLE files"}


@pytest.fixture
def url(database_url: str) -> str:
    """The URL of a registry that does not exist yet."""
    return database_url


@pytest.fixture
def files(database: Database) -> FileRegistry:
    """The rows of files in an empty registry."""
    return FileRegistry(database)


async def test_sqlite_uses_a_write_ahead_log_and_waits_for_locks(tmp_path: Path) -> None:
    """Foreign keys are enforced as well, which is not SQLite's default."""
    with make_engine(f"sqlite:///{tmp_path / 'registry.sqlite3'}").connect() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        ]
        connection.engine.dispose()
    assert values == ["wal", 1, 5000, 1]


async def test_event_loop_runs_while_the_database_is_locked(files: FileRegistry, url: str) -> None:
    """A call waits for the lock of another process; other tasks go on."""
    engine = make_engine(url)
    other = engine.connect()
    other.exec_driver_sql(LOCKS[engine.dialect.name])
    adding = asyncio.create_task(files.add(stored_file()))
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
    assert len(await files.all_ids()) == 1


async def test_parallel_calls_all_succeed(files: FileRegistry) -> None:
    """A burst of writes and reads loses none and refuses none."""
    stored = [stored_file(float(number)) for number in range(200)]
    await asyncio.gather(*(files.add(file) for file in stored))
    found = await asyncio.gather(*(files.get(file.file_id, ONE_TENANT) for file in stored))
    assert found == stored


async def test_broken_database_raises_registry_unavailable(files: FileRegistry, url: str) -> None:
    """The database's message is the error's reason, and is not in its text."""
    execute(url, "DROP TABLE files")
    with pytest.raises(RegistryUnavailable) as caught:
        await files.page(ONE_TENANT, 100)
    assert "no such table" in caught.value.reason or "does not exist" in caught.value.reason
    assert "files" not in str(caught.value)


# Migrations ------------------------------------------------------------------------------------


def test_migrations_make_the_tables_of_the_code(url: str) -> None:
    """`alembic check` finds no difference between tables.py and the newest revision."""
    engine = make_engine(url)
    migrations.upgrade(engine)
    with engine.begin() as connection:
        command.check(migrations.config_for(connection))
    engine.dispose()


def test_alembic_runs_in_the_source_folder(tmp_path: Path) -> None:
    """The `alembic` command finds its configuration and, through the settings, the registry."""
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


async def test_second_migration_changes_nothing(database: Database) -> None:
    """A second start keeps the rows."""
    await FileRegistry(database).add(stored_file())
    await database.migrate()
    assert len(await FileRegistry(database).all_ids()) == 1


def test_processes_may_migrate_at_the_same_time(url: str) -> None:
    """Six processes that start without a database all use the same registry in the end."""
    code = (
        "import asyncio, sys\n"
        "from service.database.database import Database\n"
        "from service.database.installation import registry_id\n"
        "async def main():\n"
        "    database = Database(sys.argv[1])\n"
        "    await database.migrate()\n"
        "    print(await registry_id(database))\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, url], cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(6)
    ]
    ids = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 6
    assert len(ids) == 1


async def test_registry_of_a_newer_version_is_refused(url: str) -> None:
    """The error is one sentence with the revision, and the database is not changed."""
    database = Database(url)
    await database.migrate()
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(RegistryTooNew, match="revision 9999") as caught:
        await database.migrate()
    assert "\n" not in str(caught.value)
    await database.close()


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
async def test_database_that_cannot_be_opened_names_the_setting(url: str) -> None:
    """An invalid URL, and a place that cannot be written, give one sentence without the password."""

    async def open_database() -> None:
        database = Database(url)
        try:
            await database.migrate()
        finally:
            await database.close()

    with pytest.raises(MigrationFailed, match="DATABASE_URL") as caught:
        await open_database()
    assert "\n" not in str(caught.value)
    assert "'of'" not in str(caught.value), "a part of the password"


async def test_missing_migrations_are_reported_with_their_folder(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installation without the source folder has no migrations."""
    monkeypatch.setattr(migrations, "FOLDER", tmp_path / "nowhere")
    database = Database(url)
    with pytest.raises(MigrationsMissing, match="nowhere"):
        await database.migrate()
    await database.close()


# PostgreSQL ------------------------------------------------------------------------------------


async def test_text_with_a_nul_character_is_stored(database: Database, url: str) -> None:
    """PostgreSQL has no NUL in text: it stores U+FFFD instead."""
    record = replace(execution(2.0), code="a\0b")
    await ExecutionRegistry(database).add(record)
    found = await ExecutionRegistry(database).get(record.execution_id, ONE_TENANT)
    assert found == (record if url.startswith("sqlite") else replace(record, code="a\ufffdb"))


async def test_registry_works_again_after_a_restart_of_the_server(postgres: Postgres) -> None:
    """Calls fail while the server is down; then they succeed, on connections opened before."""
    database = Database(postgres.new())
    files = FileRegistry(database)
    await database.migrate()
    file = stored_file()
    await asyncio.gather(*(files.add(replace(file, file_id=str(n))) for n in range(8)))
    with postgres.gone():
        with pytest.raises(RegistryUnavailable):
            await files.all_ids()
        with pytest.raises(RegistryUnavailable):
            await files.add(file)
    await asyncio.gather(*(files.all_ids() for _ in range(8)))
    await files.add(file)
    assert len(await files.all_ids()) == 9
    await database.close()


async def test_missing_server_is_reported_without_the_password(tmp_path: Path) -> None:
    """The error is one sentence that names the setting."""
    database = Database(f"postgresql://somebody:secret@/nothing?host={tmp_path}")
    with pytest.raises(MigrationFailed, match="DATABASE_URL names its database") as caught:
        await database.migrate()
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
    await database.close()


def test_other_drivers_are_refused() -> None:
    """Only psycopg is tested with the service."""
    with pytest.raises(MigrationFailed, match="only one for PostgreSQL"):
        Database("postgresql+pg8000://x/y")
