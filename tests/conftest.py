"""Fixtures for the behaviour tests: the engine, services of several settings, and their logs."""

import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from service.database.database import Database
from tests.support.api import Body
from tests.support.cluster import PodEngine
from tests.support.collector import Collector
from tests.support.databases import KINDS
from tests.support.engine import Engine, EngineMissing
from tests.support.keys import KeyedService, make_key
from tests.support.object_storage import ObjectStorageServer
from tests.support.postgres import Postgres
from tests.support.process import Service
from tests.support.session import Session, new_session
from tests.support.waiting import soon

LIGHT: dict[str, Any] = {"KERNEL_PRELOAD": "none", "KERNEL_LEARN_MB": "0"}
"""Containers start in a third of the time. The default preloading has its own tests."""

GENEROUS: dict[str, Any] = LIGHT | {
    "CONTAINER_REUSE": "tenant",
    "POOL_SIZE": 2,
    "MAX_EXEC_TIMEOUT_MS": 30_000,
    "CPU_TIME_LIMIT_SEC": 20,
    "IDLE_CPU_SEC": 60,
    "MEMORY_LIMIT_MB": 512,
    "QUEUE_TIMEOUT_SEC": 30,
}
"""Limits that even a slow machine does not reach."""

OPEN_SERVICES = pytest.StashKey[list[Service]]()
SHARED_SERVICE = pytest.StashKey[Service]()


class StartService(Protocol):
    """Starts a service with settings of the test's own: environment names and values."""

    def __call__(self, **settings: Any) -> Service: ...


class Run(Protocol):
    """Runs code on the shared service and returns the parsed result."""

    def __call__(self, code: str, **fields: Any) -> Body: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add options.

    `--backend kubernetes`: the services of all tests run their kernels as pods of the tests' cluster.
    `--reuse MODE`: they all have this `CONTAINER_REUSE`, whatever a test sets.
    """
    parser.addoption("--backend", choices=("docker", "kubernetes"), default="docker")
    parser.addoption("--reuse", choices=("never", "tenant"))


def pytest_configure(config: pytest.Config) -> None:
    """Make room for the services whose logs a failure shows; let programs hear an interrupt."""
    config.stash[OPEN_SERVICES] = []
    # In the background a shell may have it ignored, which programs started here would inherit.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


docker_only = pytest.mark.docker_only
"""`@docker_only("why")`: by design it does not hold of pods; what does has a test in tests/kubernetes."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that only apply to Docker when kernels are pods."""
    if config.getoption("--backend") == "docker":
        return
    for item in items:
        if (mark := item.get_closest_marker("docker_only")) is not None:
            item.add_marker(pytest.mark.skip(reason=mark.args[0]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Store the end of each open service's log as a test begins."""
    for service in item.config.stash[OPEN_SERVICES]:
        service.mark_log()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the services it used answered last and logged meanwhile, under a test that failed."""
    report = yield
    if report.failed:
        for service in item.config.stash[OPEN_SERVICES]:
            if service.finished or not service.logged_since_mark():
                continue
            answer = service.api.last_answer[:3000]
            report.sections.append((f"latest answer of {service.base_url}", answer))
            report.sections.append((f"log of {service.base_url}", service.log_tail(since_mark=True)))
    return report


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The Docker engine, or the cluster; without it, or without the kernel image, the whole run fails."""
    try:
        found = Engine() if request.config.getoption("--backend") == "docker" else PodEngine()
    except EngineMissing as missing:
        pytest.exit(str(missing), returncode=1)
    yield found
    found.close()


@pytest.fixture(scope="session")
def open_on(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[..., Service]:
    """Start a service on an engine and have its log shown under failures."""
    # Make the folder now; simultaneous threads would each make it later.
    tmp_path_factory.getbasetemp()

    def start(engine: Engine, program: Sequence[str] = ("service",), **settings: Any) -> Service:
        folder = tmp_path_factory.mktemp("service")
        environment = {name: str(value) for name, value in settings.items()}
        if reuse := request.config.getoption("--reuse"):
            environment["CONTAINER_REUSE"] = reuse
        service = Service(engine, folder, program, **environment)
        request.config.stash[OPEN_SERVICES].append(service)
        return service

    return start


@pytest.fixture(scope="session")
def open_service(engine: Engine, open_on: Callable[..., Service]) -> Callable[..., Service]:
    """Start a service as `open_on` does, on the engine of this run."""
    return partial(open_on, engine)


def serving(start: Callable[..., Service], **settings: Any) -> Iterator[Service]:
    """Open a service for several tests, yield it and finish it; for `yield from` in a fixture."""
    service = start(**settings)
    yield service
    service.finish()


@pytest.fixture(scope="session")
def service(open_service: Callable[..., Service], request: pytest.FixtureRequest) -> Iterator[Service]:
    """Return the service that most tests share. Its limits are high, so a slow machine fails no test."""
    for shared in serving(open_service, **GENEROUS):
        request.config.stash[SHARED_SERVICE] = shared
        yield shared


@pytest.fixture(scope="module")
def session(service: Service) -> Iterator[Session]:
    """Return a session for all tests of a module. Each test leaves it able to work."""
    with new_session(service) as opened:
        yield opened


@pytest.fixture(scope="module", autouse=True)
def _closes_its_sessions(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a module that leaves a session open on the shared service."""
    yield
    shared = request.config.stash.get(SHARED_SERVICE, None)
    if shared is not None:

        def open_sessions() -> list[Body]:
            found: list[Body] = shared.api.http.get("/v1/sessions").json()["sessions"]
            return found

        # Sessions of MCP end shortly after their client disconnects.
        soon(lambda: not open_sessions())
        left = open_sessions()
        for session in left:
            shared.api.http.delete(f"/v1/sessions/{session['session_id']}")
        assert left == []


@pytest.fixture(scope="session")
def default_service(open_service: Callable[..., Service]) -> Iterator[Service]:
    """Return a service with default settings, except its port and folders."""
    yield from serving(open_service)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start a PostgreSQL for the tests."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def object_storage() -> Iterator[ObjectStorageServer]:
    """Start an S3 server for the tests."""
    server = ObjectStorageServer()
    yield server
    server.close()


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a registry that does not exist yet, in SQLite and in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.sqlite3'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new()


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Start a collector of traces."""
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="session")
def watched(
    open_service: Callable[..., Service], collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KeyedService]:
    """Return a service with all telemetry: JSON logs of every level, traces and metrics."""
    file = tmp_path_factory.mktemp("watched") / "keys"
    make_key(file, "somebody")
    service = open_service(
        **LIGHT,
        API_KEYS_FILE=file,
        KEY_REQUESTS_PER_MINUTE=0,
        CONTAINER_REUSE="tenant",
        MAX_EXEC_TIMEOUT_MS=60_000,
        CPU_TIME_LIMIT_SEC=1,
        MEMORY_LIMIT_MB=64,
        LOG_FORMAT="json",
        LOG_LEVEL="DEBUG",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY=100,
    )
    keyed = KeyedService(service, file)
    yield keyed
    keyed.close()
    service.finish()


@pytest.fixture(scope="session")
def tight_service(open_service: Callable[..., Service]) -> Iterator[Service]:
    """Return a service whose limits are all small, so that tests reach them fast."""
    yield from serving(
        open_service,
        **LIGHT,
        POOL_SIZE=1,
        MAX_EXEC_TIMEOUT_MS=60_000,
        CPU_TIME_LIMIT_SEC=1,
        MEMORY_LIMIT_MB=128,
        MAX_OUTPUT_BYTES=4096,
        MAX_DISPLAY_BYTES=100_000,
        MAX_FILE_SIZE_MB=1,
        MAX_OUTPUT_FILES=5,
        MAX_REQUEST_BYTES=65_536,
        WORKSPACE_SIZE_MB=16,
        TMP_SIZE_MB=8,
        PIDS_LIMIT=64,
        QUEUE_TIMEOUT_SEC=30,
    )


@pytest.fixture(scope="module")
def beside(open_service: Callable[..., Service]) -> Iterator[Callable[..., Future[None]]]:
    """Start a long test with its own service beside the other tests of a module.

    `beside(story, SETTING=value, ...)` calls `story(service)`; the test asks for the future's result.
    """

    def tell(story: Callable[[Service], None], settings: dict[str, Any]) -> None:
        service = open_service(**LIGHT | settings)
        try:
            story(service)
        finally:
            service.finish()

    with ThreadPoolExecutor() as threads:
        yield lambda story, **settings: threads.submit(tell, story, settings)


@pytest.fixture
def start_service(open_service: Callable[..., Service]) -> Iterator[StartService]:
    """Return a function that starts services for one test. At its end they must leave no container."""
    services: list[Service] = []

    def start(**settings: Any) -> Service:
        service = open_service(**LIGHT | settings)
        services.append(service)
        return service

    yield start
    failures = []
    for service in services:
        try:
            service.finish()
        except AssertionError as failure:
            failures.append(str(failure))
    assert not failures, "\n".join(failures)


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return a new folder that other users can reach and read, but not change."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def run(service: Service) -> Run:
    """Return the function `run` of the shared service's API."""
    return service.api.run


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """Return an empty, migrated registry at the module's fixture `url`."""
    opened = Database(url)
    await opened.migrate()
    yield opened
    await opened.close()
