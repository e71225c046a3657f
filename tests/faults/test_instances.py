"""Two services at once: on one folder, on one registry, under one name."""

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
    theirs = f"sqlite:///{shaken.storage / 'registry.sqlite3'}"
    with ThreadPoolExecutor() as threads:
        yield {
            "folder": threads.submit(refused, shaken.storage),
            "registry": threads.submit(refused, tmp_path, DATABASE_URL=theirs),
        }


def test_what_one_service_stores_no_other_takes(shaken: Service, second: dict[str, Future[str]]) -> None:
    """Neither its folder nor its registry: the second one says so and ends, the first one goes on."""
    file_id = shaken.api.upload(b"kept")
    with new_session(shaken) as session:
        session.run("marker = 'here'")
        assert f"FILE_STORAGE_DIR={shaken.storage}" in second["folder"].result(timeout=60)
        assert "Another service uses the registry" in second["registry"].result(timeout=60)
        assert session.printed("marker") == "'here'"
    canary(shaken, {file_id: b"kept"})


def test_two_services_of_one_name_leave_each_other_alone(start_service: StartService) -> None:
    """With one `INSTANCE_ID` and folders of their own, nobody's containers are taken for leftovers."""
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
