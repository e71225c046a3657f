"""Tests of migrations: a start migrates the registry of every earlier version, with all its data."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from service.database import migrations
from service.database.connection import make_engine
from service.database.database import Database
from service.database.registries.file_registry import FileRegistry
from service.database.registries.session_registry import SessionRegistry
from tests.conftest import LIGHT
from tests.database.past import RECIPES, REVISIONS, Past, Row, make_past, rows_at, url_in
from tests.faults.conftest import refused
from tests.support.api import Api
from tests.support.databases import execute
from tests.support.postgres import Postgres
from tests.support.process import REGISTRY_KEY, ROOT, Service
from tests.support.records import cells_of

pytestmark = pytest.mark.timeout(120)

KEYS = {name: f"{name}-{'k' * 32}" for name in ("default", "alice")}


def killer(folder: Path, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    """Start `tests.database.killed_migration` on the registry in a folder."""
    environment = {
        "PATH": os.environ["PATH"],
        "FILE_STORAGE_DIR": str(folder),
        "REGISTRY_KEY": REGISTRY_KEY,
        "HOST": "127.0.0.1",
        "PORT": "0",
        **settings,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.database.killed_migration", *arguments],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.fixture(scope="module", autouse=True)
def runs(
    open_service: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """Run a service on a registry of each revision, two at a time. Return the outcomes by revision."""

    def run(revision: str) -> None:
        past = make_past(revision, tmp_path_factory.mktemp(revision) / "storage")
        before = rows_at(url_in(past.folder))
        if revision != REVISIONS[-1]:
            # First, a start that is killed during the migration.
            with killer(past.folder, "2") as start:
                assert start.wait(60) == -signal.SIGKILL
            assert rows_at(url_in(past.folder)) == before
        keys = ",".join(f"{name}:{key}" for name, key in KEYS.items())
        service = open_service(**LIGHT, POOL_SIZE=0, FILE_STORAGE_DIR=past.folder, API_KEYS=keys)
        apis = {name: Api(service.base_url, key) for name, key in KEYS.items()}
        try:
            assert service.instance_id == past.instance_id
            check_files(past, apis)
            if past.lost:
                check_sessions(past, apis)
        finally:
            for api in apis.values():
                api.close()
            service.finish()
        check_rows(past, before, rows_at(url_in(past.folder)))

    with ThreadPoolExecutor(2) as threads:
        yield {revision: threads.submit(run, revision) for revision in REVISIONS}


@pytest.mark.parametrize("revision", REVISIONS)
def test_start_migrates_the_registry_of_an_earlier_version(
    revision: str, runs: dict[str, Future[None]]
) -> None:
    """Owners can download their files, sessions show how they ended, and no row is lost.

    A start that is killed during the migration changes nothing. The next start migrates the registry.
    """
    runs[revision].result(timeout=110)


def check_files(past: Past, apis: dict[str, Api]) -> None:
    """Assert that each owner finds exactly their own files, unchanged, and that the expired file is gone."""
    for owner, api in apis.items():
        files = {file["file_id"]: file for file in api.http.get("/v1/files").json()["files"]}
        assert files.keys() == past.files[owner].keys()
        for file_id, content in past.files[owner].items():
            assert api.download(file_id) == content
            assert files[file_id]["sha256"] == hashlib.sha256(content).hexdigest()
            assert files[file_id]["filename"].startswith("naïve ")
        for other in past.files.keys() - {owner}:
            for file_id in past.files[other]:
                assert api.http.get(f"/v1/files/{file_id}").status_code == 404
        assert api.http.get(f"/v1/files/{past.expired}").status_code == 404


def check_sessions(past: Past, apis: dict[str, Api]) -> None:
    """Assert that owners get 410 with the reason, and that the cells are still in the history."""

    def reason(session_id: str, owner: str = "default") -> str:
        response = apis[owner].http.get(f"/v1/sessions/{session_id}")
        assert response.status_code == 410, response.text
        ended: str = response.json()["reason"]
        return ended

    assert reason(past.lost) == "lost"
    assert reason(past.ended) == "expired"
    if past.alices:
        assert reason(past.alices, "alice") == "expired"
        assert apis["default"].http.get(f"/v1/sessions/{past.alices}").status_code == 404
    assert apis["alice"].http.get(f"/v1/sessions/{past.lost}").status_code == 404
    response = apis["default"].http.get(f"/v1/sessions/{past.lost}/cells")
    assert response.status_code == 200, response.text
    done, running = response.json()["cells"]
    assert (done["code"], done["state"], done["result"]["stdout"]) == ("print(1)", "done", "1\n")
    assert (running["code"], running["state"], running["result"]) == ("print(2)", "lost", None)
    assert apis["default"].http.get(f"/v1/sessions/{past.lost}/notebook").status_code == 200


CHANGED = {
    "sessions": {"ended_at", "end_reason", "last_used_at"},
    "cells": {"state", "finished_at"},
    "containers": {"state", "removed_at", "token", "kernel_key"},
}
"""Columns of existing rows that a start itself changes."""


def check_rows(past: Past, before: dict[str, list[Row]], after: dict[str, list[Row]]) -> None:
    """Assert that every row still exists, with the same values in the columns of before.

    There are no new rows, except the execution of each cell that was running. Its outcome is `lost`.
    """
    lost = sum(cell["state"] == "running" for cell in before.get("cells", ()))
    for table, found in before.items():
        rows = [row for row in found if row.get("file_id") != past.expired]
        ignored = CHANGED.get(table, set())

        def kept(row: Row, columns: Row, ignored: set[str] = ignored) -> str:
            return repr({name: row[name] for name in sorted(columns) if name not in ignored})

        existing = {kept(row, rows[0]) for row in after[table]}
        assert {kept(row, row) for row in rows} <= existing, table
        if table in ("files", "executions", "sessions", "cells"):
            assert len(after[table]) == len(rows) + (lost if table == "executions" else 0), table
        for row in after[table]:
            assert row.get("owner", "default") in KEYS


@pytest.mark.parametrize("revision", REVISIONS)
async def test_migration_on_postgresql_keeps_all_data(
    revision: str, postgres: Postgres, tmp_path: Path
) -> None:
    """From each revision, every row is kept with its values, and the code can read it."""
    url = postgres.new()
    past = make_past(revision, tmp_path / "storage", url)
    before = rows_at(url)
    database = Database(url)
    await database.migrate()
    after = rows_at(url)
    for table, rows in before.items():
        assert len(after[table]) == len(rows)
        kept = [{name: row[name] for name in rows[0]} for row in after[table]]
        assert all(row in kept for row in rows), table
    for owner, files in past.files.items():
        page = await FileRegistry(database).page(owner, 1000)
        found = {file.file_id for file in page.files} - {past.expired}
        assert found == files.keys()
    if past.lost:
        sessions = SessionRegistry(database)
        assert [live.session_id for live in await sessions.live_sessions(past.instance_id)] == [past.lost]
        done, running = await cells_of(sessions, await sessions.cells(past.lost, 100))
        assert done.result is not None and done.result["stdout"] == "1\n" and running.result is None
    await database.close()


async def test_migration_counts_the_bytes_of_existing_cells(database_url: str, tmp_path: Path) -> None:
    """The limit on an owner's history counts the cells of earlier versions, too."""
    make_past("0007", tmp_path / "storage", database_url)
    database = Database(database_url)
    await database.migrate()
    await database.close()
    cells = rows_at(database_url)["cells"]
    assert cells
    for cell in cells:
        assert cell["code_bytes"] == len(cell["code"].encode())
        assert (cell["result_bytes"] > 300) == (cell["state"] == "done")
        assert cell["removed"] is None


def test_migration_killed_after_any_statement_changes_nothing(database_url: str, tmp_path: Path) -> None:
    """The migration from the first revision is killed after each of its statements. At last it succeeds."""
    past = make_past(REVISIONS[0], tmp_path / "storage", database_url)
    before = rows_at(database_url)
    killed = 0
    with killer(past.folder, DATABASE_URL=database_url) as process:
        assert process.stdin is not None and process.stdout is not None
        while (status := process.stdout.readline().strip()) == str(-signal.SIGKILL):
            killed += 1
            assert rows_at(database_url) == before, f"changed by a migration killed after {killed} statements"
            process.stdin.write("\n")
            process.stdin.flush()
    assert status == "0" and killed >= len(REVISIONS)
    assert rows_at(database_url).keys() > before.keys()
    engine = make_engine(database_url)
    migrations.upgrade(engine)
    engine.dispose()


def test_start_refuses_the_registry_of_a_newer_version(tmp_path: Path) -> None:
    """The service exits with an error, and does not change the registry."""
    past = make_past(REVISIONS[-1], tmp_path / "storage")
    execute(url_in(past.folder), "UPDATE alembic_version SET version_num = '9999'")
    before = rows_at(url_in(past.folder))
    error = refused(past.folder)
    assert "revision 9999" in error and "Upgrade the service" in error
    assert rows_at(url_in(past.folder)) == before


def test_every_revision_has_a_recipe() -> None:
    """A new revision needs a recipe."""
    missing = [revision for revision in REVISIONS if revision not in RECIPES]
    assert missing == [], f"write recipes for {missing}: see make_past"
