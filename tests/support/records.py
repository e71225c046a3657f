"""Records of the registry as the service writes them, for tests that use the database alone."""

import json
import time
import uuid
from dataclasses import replace
from typing import Any

from service.database.registries.session_registry import SessionRegistry
from service.database.secret_box import SecretBox
from sessions.records import (
    TEXT_BYTES,
    CellPage,
    CellRecord,
    ContainerRecord,
    ExecutionRecord,
    SessionRecord,
    StoredFile,
    StoredText,
)

BOX = SecretBox("the registry's key of the tests")
"""Encrypts the secrets of containers."""


def stored_file(created_at: float = 1.0, **changes: Any) -> StoredFile:
    """Return a file as the file store registers it."""
    file = StoredFile(
        file_id=str(uuid.uuid4()),
        filename="naïve name\u202e.csv",
        size_bytes=2**40,
        sha256="0" * 64,
        media_type="text/csv",
        created_at=created_at,
    )
    return replace(file, **changes)


def container(**changes: Any) -> ContainerRecord:
    """Return a container as the pool registers it."""
    record = ContainerRecord(
        container_id=uuid.uuid4().hex * 2,
        name="kernel-1",
        instance_id="one",
        state="running",
        created_at=time.time(),
        address="127.0.0.1",
        supervisor_port=32768,
        shell_port=32769,
        iopub_port=32770,
        token="secret-token",
        kernel_key="secret-key",
    )
    return replace(record, **changes)


def execution(finished_at: float, **changes: Any) -> ExecutionRecord:
    """Return an execution as its recorder writes it."""
    record = ExecutionRecord(
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
    return replace(record, **changes)


def session(**changes: Any) -> SessionRecord:
    """Return a session as the session manager registers it."""
    record = SessionRecord(
        session_id=str(uuid.uuid4()),
        container_id=uuid.uuid4().hex * 2,
        instance_id="one",
        created_at=0.1 + 0.2,
        expires_at=900.25,
        last_used_at=1.0,
    )
    return replace(record, **changes)


def cell(in_session: SessionRecord, number: int = 1, **changes: Any) -> CellRecord:
    """Return a cell of a session, as it is registered when it begins."""
    record = CellRecord(
        cell_id=uuid.uuid4().hex,
        session_id=in_session.session_id,
        number=number,
        code="print('naïve 🐍')\n",
        state="running",
        started_at=10.5,
        timeout_ms=2000,
    )
    return replace(record, **changes)


async def cells_of(sessions: SessionRegistry, page: CellPage) -> list[CellRecord]:
    """Return the cells of a page with their texts, which are read in pieces."""
    found = []
    for stored in await sessions.stored_cells([cell.cell_id for cell in page.cells]):
        result = None if stored.result is None else json.loads(await _whole(stored.result))
        code = (await _whole(stored.code)).decode()
        found.append(replace(stored.record, code=code, result=result))
    return found


async def _whole(text: StoredText) -> bytes:
    whole = b""
    while piece := await text.read(len(whole), TEXT_BYTES):
        whole += piece
    return whole


async def all_cells(sessions: SessionRegistry, record: SessionRecord) -> list[CellRecord]:
    """Return the cells of a session, read page by page."""
    page = await sessions.cells(record.session_id, 100)
    found = await cells_of(sessions, page)
    while page.next is not None:
        page = await sessions.cells(record.session_id, 100, page.next)
        found += await cells_of(sessions, page)
    return found
