"""Tests of two services that share a folder, a registry or an instance id."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import StartService
from tests.faults.conftest import canary, refused
from tests.support.process import Service
from tests.support.session import new_session


@pytest.fixture
def second(shaken: Service, tmp_path: Path) -> Iterator[dict[str, Future[str]]]:
    """Services that must not start beside another one; each waits a while for it to stop."""
    registry_url = f"sqlite:///{shaken.storage / 'registry.sqlite3'}"
    with ThreadPoolExecutor() as threads:
        yield {
            "folder": threads.submit(refused, shaken.storage),
            "registry": threads.submit(refused, tmp_path, DATABASE_URL=registry_url),
        }


def test_a_service_does_not_take_the_files_of_another(
    shaken: Service, second: dict[str, Future[str]]
) -> None:
    """A second service with the folder or registry of the first reports it and ends."""
    file_id = shaken.api.upload(b"kept")
    with new_session(shaken) as session:
        session.run("marker = 'here'")
        assert f"FILE_STORAGE_DIR={shaken.storage}" in second["folder"].result(timeout=60)
        assert "Another service uses the registry" in second["registry"].result(timeout=60)
        assert session.printed("marker") == "'here'"
    canary(shaken, {file_id: b"kept"})


def test_two_services_with_one_instance_id_do_not_interfere(start_service: StartService) -> None:
    """Services with one `INSTANCE_ID` but separate folders do not remove each other's containers."""
    first = start_service(POOL_SIZE=1, INSTANCE_ID="twins")
    with new_session(first) as session:
        session.run("marker = 'here'")
        before = first.engine.kernels("twins")
        other = start_service(POOL_SIZE=1, INSTANCE_ID="twins")
        canary(other)
        other.crash()
        other.restart()
        canary(other)
        other.stop()
        assert before <= first.engine.kernels("twins")
        assert session.printed("marker") == "'here'"
        canary(first)
