"""Tests of a registry that is locked, damaged, incomplete or full: it is reported and never replaced."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from service.database.database import Database
from service.errors import StartError
from tests.conftest import StartService
from tests.faults.conftest import canary, mounted, refused
from tests.support.api import problem

DATABASE = "registry.sqlite3"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return an intact registry."""
    path = tmp_path_factory.mktemp("made") / DATABASE

    async def make() -> None:
        database = Database(f"sqlite:///{path}")
        await database.migrate()
        await database.close()

    asyncio.run(make())
    return path.read_bytes()


def executed(*statements: str) -> Callable[[bytes, Path], None]:
    """Return a fault that executes SQL in the registry."""

    def change(registry: bytes, path: Path) -> None:
        path.write_bytes(registry)
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            for statement in statements:
                database.execute(statement)

    return change


def _noise_in(registry: bytes, path: Path) -> None:
    path.write_bytes(registry[:4096] + b"\xa5" * (len(registry) - 4096))


RUINS: dict[str, tuple[Callable[[bytes, Path], object], str]] = {
    "no database": (lambda registry, path: path.write_bytes(b"once upon a time " * 1000), "not a database"),
    "cut in half": (
        lambda registry, path: path.write_bytes(registry[: len(registry) // 2]),
        "malformed|damaged",
    ),
    "cut short": (
        lambda registry, path: path.write_bytes(registry[:1000]),
        "malformed|not a database|damaged",
    ),
    "random bytes": (_noise_in, "malformed|damaged"),
    "a folder": (lambda registry, path: path.mkdir(), "unable to open"),
    "newer version": (
        executed("UPDATE alembic_version SET version_num = '9999'"),
        "revision 9999",
    ),
    "without a version": (executed("DROP TABLE alembic_version"), "no schema revision"),
    "with an empty version": (executed("DELETE FROM alembic_version"), "no schema revision"),
    "with two versions": (executed("INSERT INTO alembic_version VALUES ('0001')"), "more than one head"),
    "between two versions": (
        executed("UPDATE alembic_version SET version_num = '0001'"),
        "already exists|duplicate",
    ),
    "without a table": (executed("DROP TABLE files"), "table files is missing"),
    "without a column": (executed("ALTER TABLE files DROP COLUMN sha256"), "no column sha256"),
}


@pytest.mark.parametrize("ruin", RUINS)
async def test_a_damaged_registry_is_refused_and_unchanged(ruin: str, made: bytes, tmp_path: Path) -> None:
    """One sentence says what is wrong. Nothing is written, so the registry can be repaired."""
    change, reason = RUINS[ruin]
    path = tmp_path / DATABASE
    change(made, path)
    before = path.read_bytes() if path.is_file() else None
    database = Database(f"sqlite:///{path}")
    with pytest.raises(StartError, match=reason) as caught:
        await database.migrate()
    await database.close()
    assert "\n" not in str(caught.value) and "DATABASE_URL" in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_service_without_its_registry_does_not_start(start_service: StartService) -> None:
    """A new registry instead of a missing one would make every stored file a leftover."""
    service = start_service(POOL_SIZE=1)
    file_id = service.api.upload(b"kept")
    service.crash()
    path = service.storage / DATABASE
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).rename(service.storage / f"moved{suffix}")
    moved = path.rename(service.storage / "moved")
    assert "registry is missing or empty" in refused(service.storage)
    path.write_bytes(b"")
    assert "registry is missing or empty" in refused(service.storage)
    path.write_bytes(b"once upon a time " * 1000)
    assert "not a database" in refused(service.storage)
    moved.rename(path)
    for suffix in ("-wal", "-shm"):
        (service.storage / f"moved{suffix}").rename(path.with_name(path.name + suffix))
    service.restart()
    canary(service, {file_id: b"kept"})


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock of SQLite for the block, as another process would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield


def refused_while_locked(made: bytes, folder: Path) -> str:
    """Do what `test_a_registry_that_stays_locked_is_reported` describes."""
    (folder / DATABASE).write_bytes(made)
    with locked(folder / DATABASE):
        return refused(folder)


@pytest.fixture(scope="module", autouse=True)
def locked_out(made: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[str]]:
    """Begin the start that waits long before all tests, so that it runs beside them."""
    with ThreadPoolExecutor() as threads:
        yield threads.submit(refused_while_locked, made, tmp_path_factory.mktemp("locked"))


def test_a_locked_registry_is_waited_for_and_reported(start_service: StartService) -> None:
    """Calls wait for some seconds, then give 503. They work again once the lock is released."""
    service = start_service(POOL_SIZE=1)
    file_id = service.api.upload(b"kept")
    with locked(service.storage / DATABASE):
        timer = threading.Timer(1, canary, [service])
        timer.start()
        response = service.api.http.post("/v1/files", files={"file": ("late.txt", b"late")})
        assert response.status_code == 503 and problem(response)["code"] == "registry_unavailable"
    timer.join()
    canary(service, {file_id: b"kept"})


def test_a_registry_that_stays_locked_is_reported(locked_out: Future[str]) -> None:
    """A start waits for the lock, and then ends with a sentence."""
    assert "database is locked" in locked_out.result(timeout=90)


def test_a_full_disk_under_the_registry_is_reported(start_service: StartService, tmp_path: Path) -> None:
    """Calls that must write a row are refused, new containers too. With free space they work again."""
    with mounted(tmp_path / "disk", "2m") as disk:
        url = f"sqlite:///{disk / DATABASE}"
        service = start_service(POOL_SIZE=1, QUEUE_TIMEOUT_SEC=2, DATABASE_URL=url)
        file_id = service.api.upload(b"kept")
        filler = disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        response = service.api.http.post("/v1/files", files={"file": ("late.txt", b"late" * 1000)})
        assert response.status_code == 507 and response.json()["code"] == "storage_full"
        response = service.api.http.post("/v1/sessions", json={})
        assert response.json()["code"] in ("storage_full", "no_capacity", "all_kernels_busy")
        assert service.api.execute("print('runs')").status_code in (200, 429, 503)
        assert service.api.download(file_id) == b"kept"
        filler.unlink()
        canary(service, {file_id: b"kept"})
        service.finish()
