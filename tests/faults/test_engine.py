"""Tests of a container engine that is killed and restarted, or loses its image or network."""

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conftest import LIGHT
from tests.faults.conftest import RECOVERY_SECONDS, canary, refused
from tests.faults.second_engine import SecondEngine, can_run_engines
from tests.sessions.test_session_survival import container_of
from tests.support.process import Service
from tests.support.session import Session, open_session

pytestmark = pytest.mark.timeout(240)

NETWORK = "code-interpreter"
OWN_IMAGE = "localhost:1/kernels:own"
"""An address without a registry of images, because the service tries to pull a missing image."""


@pytest.fixture(scope="module")
def second() -> Iterator[SecondEngine]:
    """Return a second engine that has the kernel image."""
    can_run_engines()
    engine = SecondEngine(Path(tempfile.mkdtemp(prefix="engine-", dir="/tmp")))
    engine.start()
    try:
        engine.load()
        yield engine
    finally:
        engine.close()


@pytest.fixture
def service_on(second: SecondEngine, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Return a function that starts a service on that engine. At the end the service leaves nothing."""
    engine = second.engine()
    services: list[Service] = []

    def start(folder: Path = tmp_path, **settings: object) -> Service:
        environment = LIGHT | {"DOCKER_HOST": second.url, "POOL_SIZE": 1, "QUEUE_TIMEOUT_SEC": 3} | settings
        service = Service(engine, folder, **{name: str(value) for name, value in environment.items()})
        services.append(service)
        return service

    yield start
    for service in services:
        service.finish()
    engine.close()


def wait_for(session: Session, status: int) -> httpx.Response:
    """Poll the session until `GET` gives that status."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while (response := session.call("GET")).status_code != status:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.2)
    return response


@pytest.mark.parametrize("how", ["killed", "stopped"])
@pytest.mark.parametrize("live_restore", [False, True], ids=["plain", "live-restore"])
def test_the_service_recovers_when_the_engine_returns(
    second: SecondEngine, service_on: Callable[..., Service], how: str, live_restore: bool
) -> None:
    """Meanwhile calls are refused and `/health` says why; then the service mends itself.

    Files are kept. A session lives on where its container did, and otherwise says that it is lost. Engines
    differ in that: with live-restore, too, some remove containers that remove themselves at their end.
    """
    options = ["--live-restore"] if live_restore else []
    second.stop()
    second.start(*options)
    service = service_on()
    kept = service.api.upload(b"kept")
    session = open_session(service)
    session.run("marker = 'here'")
    container = container_of(session)

    second.kill() if how == "killed" else second.stop()
    assert service.api.http.get("/health").json()["status"] == "error"
    response = service.api.execute("print(1)")
    assert response.status_code in (200, 503), response.text
    assert service.api.download(kept) == b"kept"
    while service.api.http.get("/ready").status_code == 200:  # Waiting kernels survive a kill of the engine.
        service.api.execute("print(1)")
    assert service.api.http.get("/ready").json()["code"] == "not_ready"

    second.start(*options)
    canary(service, {kept: b"kept"})
    assert service.api.http.get("/health").json()["status"] == "ok"
    if container in service.engine.kernels(service.instance_id):
        wait_for(session, 200)
        assert session.printed("marker") == "'here'"
        session.delete()
    else:
        assert wait_for(session, 410).json()["reason"] == "lost"


def test_the_service_does_not_start_without_an_engine(second: SecondEngine, tmp_path: Path) -> None:
    """The service gives the reason in one sentence."""
    second.stop()
    try:
        error = refused(tmp_path, DOCKER_HOST=second.url)
        assert "engine does not answer: " in error and "is the Docker engine running?" in error
    finally:
        second.start()


def test_the_service_recovers_when_the_image_returns(
    second: SecondEngine, service_on: Callable[..., Service]
) -> None:
    """Calls are refused with the reason until an image with that name, of any id, exists again."""
    second.derive(OWN_IMAGE)
    service = service_on(CONTAINER_REUSE="never", POOL_SIZE=0, PYTHON_EXECUTOR_DOCKER_IMAGE=OWN_IMAGE)
    canary(service)
    service.engine.wait_for_none(service.instance_id, 10)
    second.docker("image", "rm", "--force", OWN_IMAGE)
    response = service.api.execute("print(1)")
    assert response.status_code == 503 and OWN_IMAGE in response.json()["detail"], response.text
    second.derive(OWN_IMAGE)
    canary(service)


def test_services_that_start_together_make_one_network(
    second: SecondEngine, service_on: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """There is no network before. All services work."""
    second.docker("network", "prune", "--force")
    assert networks(second) == []
    with ThreadPoolExecutor() as threads:
        starting = [threads.submit(service_on, folder=tmp_path_factory.mktemp("together")) for _ in range(4)]
        services = [future.result() for future in starting]
    assert len(networks(second)) == 1
    for service in services:
        canary(service)


def test_a_second_network_of_the_same_name_is_removed(
    second: SecondEngine, service_on: Callable[..., Service]
) -> None:
    """The service removes it at the start and while it runs. The engine finds neither network by its name."""
    engine = second.engine()
    for _ in range(2 - len(networks(second))):
        engine.make_network(NETWORK)
    both = networks(second)
    assert len(both) == 2
    service = service_on(CONTAINER_REUSE="never", POOL_SIZE=0)
    canary(service)
    (left,) = networks(second)
    assert left in both
    engine.make_network(NETWORK)
    canary(service)
    assert networks(second) == [left]
    engine.close()


def networks(engine: SecondEngine) -> list[str]:
    """Return the ids of the networks for kernels."""
    return engine.docker("network", "ls", "--quiet", "--filter", f"name=^{NETWORK}$").stdout.split()


def test_a_removed_network_is_made_again(second: SecondEngine, service_on: Callable[..., Service]) -> None:
    """The service makes the network again."""
    service = service_on(CONTAINER_REUSE="never", POOL_SIZE=0)
    canary(service)
    service.engine.wait_for_none(service.instance_id, 10)
    second.docker("network", "rm", NETWORK)
    canary(service)
