"""`code-interpreter-api restore`: a service serves what a backup has, after everything else was lost."""

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import LIGHT
from tests.operations.commands import run_command
from tests.support.process import Service
from tests.support.session import open_session

pytestmark = pytest.mark.timeout(120)

CONTENTS = (b"", b"kept", os.urandom(3 << 20))


@pytest.fixture(scope="module")
def backup(
    open_service: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, bytes], str]:
    """A backup, the files in it, and the id of the session in it. The service has stopped."""
    service = open_service(**LIGHT, POOL_SIZE=0)
    folder = tmp_path_factory.mktemp("backups") / "backup"
    try:
        files = {service.api.upload(content): content for content in CONTENTS}
        session = open_session(service)
        session.run("marker = 'here'")
        assert run_command("backup", folder, storage=service.storage).returncode == 0
        session.delete()
    finally:
        service.finish()
    shutil.rmtree(service.storage)
    return folder, files, session.id


def snapshot(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, except the locks."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name != "lock"
    }


def test_service_on_restored_data_serves_files_and_history(
    backup: tuple[Path, dict[str, bytes], str], open_service: Callable[..., Service], tmp_path: Path
) -> None:
    """Files and cells are back. The session itself has ended, since its container is not in a backup."""
    folder, files, session_id = backup
    storage = tmp_path / "new" / "storage"
    restored = run_command("restore", folder, storage=storage)
    assert restored.returncode == 0, restored.stderr
    assert restored.stdout == f"{folder}: restored 3 files, {sum(map(len, CONTENTS))} bytes\n"
    assert {oct(path.stat().st_mode & 0o777) for path in storage.rglob("*") if path.is_file()} == {"0o600"}
    service = open_service(**LIGHT, POOL_SIZE=0, FILE_STORAGE_DIR=storage)
    try:
        assert {file_id: service.api.download(file_id) for file_id in files} == files
        ended = service.api.http.get(f"/v1/sessions/{session_id}")
        assert (ended.status_code, ended.json()["reason"]) == (410, "lost")
        cells = service.api.http.get(f"/v1/sessions/{session_id}/cells").json()["cells"]
        assert [cell["code"] for cell in cells] == ["marker = 'here'"]
        assert service.api.run("print(6 * 7)")["stdout"] == "42\n"

        refused = run_command("restore", folder, "--replace", storage=storage)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"Another service uses FILE_STORAGE_DIR={storage};")
        assert "Another service uses" in refused.stderr.splitlines()[-1]
        assert {file_id: service.api.download(file_id) for file_id in files} == files
    finally:
        service.finish()


def test_registry_is_restored_where_database_url_says(
    backup: tuple[Path, dict[str, bytes], str], tmp_path: Path
) -> None:
    """The folder of the files then has no registry."""
    folder, files, _ = backup
    storage, registry = tmp_path / "storage", tmp_path / "elsewhere" / "my.db"
    restored = run_command("restore", folder, storage=storage, DATABASE_URL=f"sqlite:///{registry}")
    assert restored.returncode == 0, restored.stderr
    with closing(sqlite3.connect(registry)) as database:
        assert {file_id for (file_id,) in database.execute("SELECT file_id FROM files")} == files.keys()
    assert {path.name for path in (storage / "files").iterdir()} == files.keys()
    assert not (storage / "registry.sqlite3").exists()


def test_present_data_is_deleted_only_with_replace(
    backup: tuple[Path, dict[str, bytes], str], tmp_path: Path
) -> None:
    """A refusal changes nothing; with the option, nothing of the old data is left."""
    folder, files, _ = backup
    storage = tmp_path / "storage"
    (storage / "files").mkdir(parents=True)
    (storage / "files" / "old").write_bytes(b"old")
    for name in ("registry.sqlite3", "registry.sqlite3-wal", "registry.sqlite3-shm"):
        (storage / name).write_bytes(b"old")
    before = snapshot(storage)
    refused = run_command("restore", folder, storage=storage)
    assert refused.returncode == 1 and "has data already; --replace deletes it" in refused.stderr
    assert snapshot(storage) == before

    replaced = run_command("restore", folder, "--replace", storage=storage)
    assert replaced.returncode == 0, replaced.stderr
    names = {f"files/{file_id}" for file_id in files} | {"registry.sqlite3"}
    assert snapshot(storage).keys() == names


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda copy, _: shutil.rmtree(copy), "it is not a backup"),
        (lambda copy, _: (copy / "registry.sqlite3").unlink(), "it is not a backup"),
        (lambda copy, _: shutil.rmtree(copy / "files"), "it is not a backup"),
        (lambda copy, _: (copy / "registry.sqlite3").write_bytes(b""), "is empty"),
        (lambda copy, _: (copy / "registry.sqlite3").write_bytes(b"x" * 4096), "cannot be read"),
        (lambda copy, file_id: (copy / "files" / file_id).unlink(), "is missing"),
        (lambda copy, file_id: (copy / "files" / file_id).write_bytes(b"other"), "is damaged"),
    ],
)
def test_incomplete_backup_is_refused_and_changes_nothing(
    backup: tuple[Path, dict[str, bytes], str],
    tmp_path: Path,
    damage: Callable[[Path, str], object],
    reason: str,
) -> None:
    """The reason is one sentence. Present data stays, even with `--replace`."""
    folder, files, _ = backup
    copy, storage = tmp_path / "copy", tmp_path / "storage"
    shutil.copytree(folder, copy)
    damage(copy, next(iter(files)))
    (storage / "files").mkdir(parents=True)
    (storage / "files" / "old").write_bytes(b"old")
    before = snapshot(storage)
    refused = run_command("restore", copy, "--replace", storage=storage)
    assert refused.returncode == 1 and reason in refused.stderr, refused.stderr
    assert refused.stderr.startswith(f"Cannot restore {copy}: ") and refused.stderr.count("\n") == 1
    assert snapshot(storage) == before


def test_backup_of_a_newer_version_is_refused(
    backup: tuple[Path, dict[str, bytes], str], tmp_path: Path
) -> None:
    """The present version cannot read the registry of the backup."""
    folder, _, _ = backup
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with closing(sqlite3.connect(copy / "registry.sqlite3")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffff'")
    refused = run_command("restore", copy, storage=tmp_path / "storage")
    assert refused.returncode == 1 and "a newer version made it (schema ffff)" in refused.stderr


def test_other_databases_and_storages_are_refused(
    backup: tuple[Path, dict[str, bytes], str], tmp_path: Path
) -> None:
    """The sentence names the tool to use instead."""
    folder, _, _ = backup
    for settings, tool in (
        ({"DATABASE_URL": "postgresql://x@127.0.0.1:1/y"}, "pg_restore"),
        ({"FILE_STORAGE_URL": "s3://somewhere"}, "aws s3 sync"),
        ({"FILE_STORAGE_DIR": str(folder)}, "FILE_STORAGE_DIR itself"),
    ):
        refused = run_command("restore", folder, storage=tmp_path, **settings)
        assert refused.returncode == 1 and tool in refused.stderr, refused.stderr
