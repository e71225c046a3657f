"""`code-interpreter-api backup`: a copy of a running service, and a service started on the copy."""

import hashlib
import os
import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import LIGHT
from tests.faults.conftest import mounted
from tests.operations.commands import run_command
from tests.support.process import Service
from tests.support.session import open_session

pytestmark = pytest.mark.timeout(120)


def busy(service: Service, stop: threading.Event) -> None:
    """Store and delete files until the event is set."""
    file_ids: list[str] = []
    while not stop.is_set():
        file_ids.append(service.api.upload(os.urandom(50_000)))
        if len(file_ids) > 3:
            service.api.http.delete(f"/v1/files/{file_ids.pop(0)}")


def test_service_on_the_copy_has_files_and_ended_sessions(
    service: Service, open_service: Callable[..., Service], tmp_path: Path
) -> None:
    """The copy is made while files come and go. Its service runs beside the original."""
    kept = {service.api.upload(content): content for content in (b"", b"kept", os.urandom(3 << 20))}
    (made,) = service.api.run("with open('made.txt', 'w') as f: _ = f.write('made')")["files"]
    kept[made["file_id"]] = b"made"
    session = open_session(service)
    session.run("marker = 'here'")
    done = threading.Event()
    writer = threading.Thread(target=busy, args=(service, done))
    writer.start()
    folder = tmp_path / "backup"
    copied = run_command("backup", folder, storage=service.storage)
    done.set()
    writer.join(30)
    assert copied.returncode == 0, copied.stderr
    assert f"{folder}: " in copied.stdout
    assert {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_file()} == {"0o600"}

    copy = open_service(**LIGHT, POOL_SIZE=0, FILE_STORAGE_DIR=folder)
    try:
        assert copy.instance_id != service.instance_id
        for file_id, content in kept.items():
            assert copy.api.download(file_id) == content
        listed = copy.api.http.get("/v1/files").json()["files"]
        assert len(listed) >= len(kept)
        for file in listed:
            assert hashlib.sha256(copy.api.download(file["file_id"])).hexdigest() == file["sha256"]
        ended = copy.api.http.get(f"/v1/sessions/{session.id}")
        assert (ended.status_code, ended.json()["reason"]) == (410, "lost")
        cells = copy.api.http.get(f"/v1/sessions/{session.id}/cells").json()["cells"]
        assert [cell["code"] for cell in cells] == ["marker = 'here'"]
        assert copy.api.run("print(6 * 7)")["stdout"] == "42\n"
    finally:
        copy.finish()

    assert session.printed("marker") == "'here'"
    session.delete()
    for file_id, content in kept.items():
        assert service.api.download(file_id) == content
        service.api.http.delete(f"/v1/files/{file_id}")


def test_file_deleted_during_the_backup_is_not_in_the_copy(tmp_path: Path) -> None:
    """Otherwise the copy would list a file that cannot be downloaded."""
    storage = tmp_path / "storage"
    (storage / "files").mkdir(parents=True)
    with closing(sqlite3.connect(storage / "registry.sqlite3")) as database, database:
        database.execute("CREATE TABLE files (file_id VARCHAR(36))")
        database.executemany("INSERT INTO files VALUES (?)", [("here",), ("gone",)])
    (storage / "files" / "here").write_bytes(b"here")
    (storage / "files" / "nobody's").write_bytes(b"x")
    copied = run_command("backup", tmp_path / "backup", storage=storage)
    assert copied.returncode == 0 and "1 files, 4 bytes; 1 were deleted meanwhile" in copied.stdout
    assert [path.name for path in (tmp_path / "backup" / "files").iterdir()] == ["here"]
    with closing(sqlite3.connect(tmp_path / "backup" / "registry.sqlite3")) as database:
        assert list(database.execute("SELECT file_id FROM files")) == [("here",)]


def test_failed_backup_says_why_and_leaves_nothing(service: Service, tmp_path: Path) -> None:
    """There is no registry, the folder exists, the disk is too small, or the database is another one."""
    result = run_command("backup", tmp_path / "backup", storage=tmp_path / "nothing")
    assert result.returncode == 1 and "there is no registry" in result.stderr
    (tmp_path / "there").mkdir()
    result = run_command("backup", tmp_path / "there", storage=service.storage)
    assert result.returncode == 1 and "it exists already" in result.stderr
    result = run_command("backup", tmp_path / "backup", storage=service.storage, DATABASE_URL="sqlite://")
    assert result.returncode == 1 and "that database's own tool" in result.stderr
    result = run_command(
        "backup", tmp_path / "backup", storage=service.storage, DATABASE_URL="postgresql://x@127.0.0.1:1/y"
    )
    assert result.returncode == 1 and "pg_dump" in result.stderr
    result = run_command(
        "backup", tmp_path / "backup", storage=service.storage, FILE_STORAGE_URL="s3://somewhere"
    )
    assert result.returncode == 1 and "sync" in result.stderr
    file_id = service.api.upload(os.urandom(2 << 20))
    with mounted(tmp_path / "disk", "1m") as disk:
        result = run_command("backup", disk / "backup", storage=service.storage)
        assert result.returncode == 1 and re.search("No space left|is full", result.stderr)
        assert result.stderr.count("\n") == 1
        assert list(disk.iterdir()) == []
    service.api.http.delete(f"/v1/files/{file_id}")
    assert not (tmp_path / "backup").exists() and not list((tmp_path / "there").iterdir())
