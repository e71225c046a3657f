"""Registries as earlier versions wrote them, with data in every table and column.

Each revision in alembic/versions has a recipe here, which writes rows as that version does. A new revision
needs a new recipe.
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from service.database import migrations
from service.database.connection import make_engine

UNUSED_PORT = 1

Row = dict[str, Any]


@dataclass
class Past:
    """A registry of an earlier version and its files. A recipe fills it."""

    folder: Path
    database: Connection
    instance_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    files: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"default": {}, "alice": {}})
    """Contents of the files that must be found after the migration, by owner and id."""
    expired: str = ""
    """Id of a file that has expired."""
    lost: str = ""
    """Id of a session that was live when the earlier version ended."""
    ended: str = ""
    """Id of a session that had expired before."""
    alices: str = ""
    """Id of an expired session of alice; empty in versions without owners."""

    def add(self, table: str, **row: object) -> None:
        """Insert a row."""
        marks = ", ".join(f":{name}" for name in row)
        self.database.execute(text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"), row)


def rows_of(database: Connection) -> dict[str, list[Row]]:
    """Return every row of every table, without the table of alembic."""
    tables = [name for name in sorted(inspect(database).get_table_names()) if name != "alembic_version"]
    return {
        table: [dict(row) for row in database.execute(text(f"SELECT * FROM {table}")).mappings()]
        for table in tables
    }


def _add_file(past: Past, whose: str, expires_at: float | None, origin: str, **more: object) -> str:
    file_id, content = str(uuid.uuid4()), os.urandom(1000)
    (past.folder / "files" / file_id).write_bytes(content)
    past.add(
        "files",
        file_id=file_id,
        filename=f"naïve {origin}.csv",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        media_type="text/csv",
        created_at=time.time() - 7200,
        expires_at=expires_at,
        origin=origin,
        execution_id=None if origin == "upload" else uuid.uuid4().hex,
        **more,
    )
    past.files[whose][file_id] = content
    return file_id


def _add_execution(past: Past, **more: object) -> None:
    now = time.time()
    past.add(
        "executions",
        execution_id=uuid.uuid4().hex,
        created_at=now - 90,
        finished_at=now - 80,
        outcome="ok",
        exit_code=0,
        timed_out=False,
        duration_ms=12,
        stdout_bytes=2**33,
        stderr_bytes=1,
        files_in=1,
        files_out=2,
        **more,
    )


def _add_container(past: Past, removed_at: float | None) -> str:
    container_id = uuid.uuid4().hex * 2
    past.add(
        "containers",
        container_id=container_id,
        name=f"code-interpreter-{container_id[:8]}",
        instance_id=past.instance_id,
        state="running" if removed_at is None else "removed",
        created_at=time.time() - 600,
        removed_at=removed_at,
        address="127.0.0.1",
        supervisor_port=UNUSED_PORT,
        shell_port=UNUSED_PORT,
        iopub_port=UNUSED_PORT,
        token="t" * 64,
        kernel_key="k" * 64,
    )
    return container_id


def _add_session(past: Past, container_id: str, end_reason: str | None, **more: object) -> str:
    session_id, now = str(uuid.uuid4()), time.time()
    past.add(
        "sessions",
        session_id=session_id,
        container_id=container_id,
        instance_id=past.instance_id,
        created_at=now - 600,
        expires_at=now + 600 if end_reason is None else now - 60,
        last_used_at=now - 100,
        ended_at=None if end_reason is None else now - 60,
        end_reason=end_reason,
        **more,
    )
    return session_id


def _add_cell(past: Past, session_id: str, number: int, state: str) -> None:
    is_done = state == "done"
    past.add(
        "cells",
        cell_id=uuid.uuid4().hex,
        session_id=session_id,
        number=number,
        code=f"print({number})",
        state=state,
        started_at=time.time() - 200,
        timeout_ms=1000,
        finished_at=time.time() - 190 if is_done else None,
        result=json.dumps(_result(number)) if is_done else None,
    )


def _result(number: int) -> Row:
    """Return the result of a cell as the first version with cells wrote it. Later versions must read it."""
    return {
        "stdout": f"{number}\n",
        "stderr": "",
        "exit_code": 0,
        "timed_out": False,
        "duration_ms": 3,
        "files": [{"path": "a.txt", "kind": "file", "file_id": str(uuid.uuid4()), "size_bytes": 4}],
        "outputs": [{"output_type": "display_data", "data": {"text/plain": "1"}, "metadata": {}}],
        "error": None,
        "state": "kept",
        "state_reason": "the kernel goes on",
        "execution_count": number,
        "cell_id": uuid.uuid4().hex,
        "execution_id": uuid.uuid4().hex,
        "truncated": [],
        "skipped_files": [{"path": "b.bin", "size_bytes": 9, "reason": "File size exceeds maximum of 10 MB"}],
    }


def _write_0001(past: Past, **columns: dict[str, object]) -> None:
    """Write files, executions, containers and the instance id.

    `of` has the columns that later versions add to the rows of a table.
    """
    past.add("instance", key="instance_id", value=past.instance_id)
    of_file, of_execution = columns.get("file", {}), columns.get("execution", {})
    _add_file(past, "default", time.time() + 3600, "upload", **of_file)
    _add_file(past, "default", None, "output", **of_file)
    past.expired = _add_file(past, "default", time.time() - 60, "display", **of_file)
    del past.files["default"][past.expired]
    _add_execution(past, **of_execution)
    _add_container(past, removed_at=time.time() - 500)


def _write_0002(past: Past, **columns: dict[str, object]) -> None:
    """Write also sessions with cells. One cell was running when the service ended."""
    _write_0001(past, **columns)
    past.lost = _add_session(past, _add_container(past, removed_at=None), None)
    past.ended = _add_session(past, _add_container(past, removed_at=time.time() - 60), "expired")
    _add_cell(past, past.lost, 1, "done")
    _add_cell(past, past.lost, 2, "running")
    _add_cell(past, past.ended, 1, "done")


def _write_0003(past: Past, **columns: dict[str, object]) -> None:
    """Write also rows that belong to a key."""
    _write_0002(past, **columns)
    _add_file(past, "alice", None, "upload", owner="alice", **columns.get("file", {}))
    _add_execution(past, owner="alice", **columns.get("execution", {}))
    past.alices = _add_session(past, _add_container(past, time.time() - 60), "expired", owner="alice")
    _add_cell(past, past.alices, 1, "done")


def _write_0004(past: Past) -> None:
    """Write also the times and sizes of executions."""
    times = ("queue_ms", "start_ms", "stage_ms", "run_ms", "gather_ms", "store_ms", "cpu_ms")
    sizes = ("code_bytes", "display_bytes", "files_in_bytes", "files_out_bytes")
    more = dict.fromkeys(times, 1.5) | dict.fromkeys(sizes, 7) | {"kind": "cell", "code": "1"}
    _write_0003(past, execution={**more, "session_id": str(uuid.uuid4())})


def _write_0005(past: Past) -> None:
    """Write also a replica, and the holders of sessions."""
    _write_0004(past)
    past.add(
        "replicas",
        replica_id=uuid.uuid4().hex,
        instance_id="another",
        engine_id="an engine",
        url="http://127.0.0.1:1",
        expires_at=time.time() - 60,
    )
    past.database.execute(text("UPDATE containers SET engine_id = 'an engine'"))
    past.database.execute(text("UPDATE sessions SET holder = 'another', free_since = 1.5"))


def _write_0007(past: Past) -> None:
    """Write also the digests of the files' ends."""
    _write_0005(past)
    past.database.execute(text(f"UPDATE files SET ends_sha256 = '{'0' * 64}'"))


def _write_0008(past: Past) -> None:
    """Write also the sizes of cells, and a cell whose result was removed."""
    _write_0007(past)
    _add_cell(past, past.ended, 2, "done")
    removed = "result = NULL, result_bytes = 0, code_bytes = 8, removed = 'result'"
    past.database.execute(text(f"UPDATE cells SET {removed} WHERE number = 2 AND state = 'done'"))


RECIPES: dict[str, Callable[[Past], None]] = {
    "0001": _write_0001,
    "0002": _write_0002,
    "0003": _write_0003,
    "0004": _write_0004,
    "0005": _write_0005,
    "0006": _write_0005,
    "0007": _write_0007,
    "0008": _write_0008,
}


def _revisions() -> list[str]:
    engine = make_engine("sqlite://")
    with engine.begin() as connection:
        scripts = ScriptDirectory.from_config(migrations.config_for(connection))
    engine.dispose()
    return [script.revision for script in reversed(list(scripts.walk_revisions()))]


REVISIONS = _revisions()


def make_past(revision: str, folder: Path, url: str | None = None) -> Past:
    """Make a registry of a revision with data in every table and column, and its files."""
    if revision not in RECIPES:
        pytest.fail(
            f"Revision {revision} has no recipe: add one to RECIPES in this file. It must "
            "fill the tables as the version with that revision does."
        )
    (folder / "files").mkdir(parents=True)
    engine = make_engine(url or url_in(folder))
    with migrations._ALEMBIC, engine.begin() as connection:
        command.upgrade(migrations.config_for(connection), revision)
    with engine.begin() as database:
        past = Past(folder, database)
        RECIPES[revision](past)
        for table, rows in rows_of(database).items():
            assert rows, f"the recipe of revision {revision} leaves the table {table} empty"
            for column in rows[0]:
                filled = any(row[column] is not None for row in rows)
                assert filled, f"the recipe of revision {revision} leaves {table}.{column} null everywhere"
    engine.dispose()
    return past


def url_in(folder: Path) -> str:
    """Return the URL of the registry in a folder."""
    return f"sqlite:///{folder / 'registry.sqlite3'}"


def rows_at(url: str) -> dict[str, list[Row]]:
    """Return every row of every table of a registry, without the table of alembic."""
    engine = make_engine(url)
    with engine.connect() as database:
        rows = rows_of(database)
    engine.dispose()
    return rows
