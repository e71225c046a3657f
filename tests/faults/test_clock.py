"""Tests of a machine's clock that is set forward and back while the service runs or is stopped."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import LIGHT, serving
from tests.faults.conftest import canary
from tests.support.process import Service
from tests.support.session import new_session

YEAR = 365 * 24 * 3600.0


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    """Return the file with the offset of the service's clock, in seconds."""
    path = tmp_path / "moved"
    path.write_text("0")
    return path


@pytest.fixture
def service(moved: Path, open_service: Callable[..., Service]) -> Iterator[Service]:
    """Return a service with that clock."""
    yield from serving(open_service, program=("tests.faults.moved_clock", str(moved)), **LIGHT, POOL_SIZE=1)


@pytest.mark.parametrize("seconds", [YEAR, -YEAR], ids=["forward", "back"])
def test_a_jump_of_the_clock_ends_nothing(service: Service, moved: Path, seconds: float) -> None:
    """Sessions and files are kept exactly as long as announced."""
    kept = service.api.upload(b"kept")
    with new_session(service, ttl_seconds=60) as session, new_session(service, ttl_seconds=60) as short:
        session.run("marker = 'here'")
        before = session.describe()["expires_at"]
        moved.write_text(str(seconds))
        short.extend(3)
        began = time.monotonic()
        assert short.wait_until_ended()["reason"] == "expired"
        assert time.monotonic() - began > 1.5
        assert session.printed("marker") == "'here'"
        assert session.describe()["expires_at"] == before
        assert session.extend(60)["expires_at"] == pytest.approx(before, abs=30)
        result = session.run("import time; time.sleep(600)", timeout_ms=500)
        assert result["timed_out"] is True
    canary(service, {kept: b"kept"})


def test_a_restart_after_a_jump_uses_the_new_time(service: Service, moved: Path) -> None:
    """A clock set back while the service is stopped ends nothing, and stored files are kept."""
    kept = service.api.upload(b"kept")
    with new_session(service) as session:
        session.run("marker = 'here'")
        service.crash()
        moved.write_text(str(-YEAR))
        service.restart()
        assert session.printed("marker") == "'here'"
        canary(service, {kept: b"kept"})
