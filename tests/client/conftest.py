"""Fixtures: both clients behind one interface, a service, one with low limits, and a scripted server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from code_interpreter_client import AsyncClient, Client
from tests.client.blocking import Blocking, Loop
from tests.client.odd_server import OddServer
from tests.conftest import LIGHT, serving
from tests.support.process import Service

ALICE = "key-of-alice-in-the-environment"
BOB = "key-of-bob-in-the-environment"

MakeClient = Callable[..., Client]


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    """Run an event loop on a thread, for the asynchronous client."""
    with Loop() as running:
        yield running


@pytest.fixture(params=["blocking", "async"])
def make_client(request: pytest.FixtureRequest, loop: Loop) -> Iterator[MakeClient]:
    """Yield a function that makes clients of one kind; the asynchronous one has blocking calls."""
    made: list[Client] = []

    def make(url: str, **options: object) -> Client:
        if request.param == "blocking":
            client = Client(url, **options)  # type: ignore[arg-type]
        else:
            client = Blocking(AsyncClient(url, **options), loop)  # type: ignore[arg-type, assignment]
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(make_client: MakeClient, service: Service) -> Client:
    """Return a client of the shared service."""
    return make_client(service.base_url)


@pytest.fixture(scope="session")
def crowded(open_service: Callable[..., Service]) -> Iterator[Service]:
    """Start a service with two keys, each with one execution at a time, and one container in total."""
    yield from serving(
        open_service,
        **LIGHT,
        API_KEYS=f"alice:{ALICE},bob:{BOB}",
        KEY_MAX_EXECUTIONS=1,
        POOL_SIZE=1,
        MAX_CONTAINERS=1,
        MAX_SESSIONS=0,
        MAX_FILE_SIZE_MB=1,
        QUEUE_SIZE=1,
        QUEUE_TIMEOUT_SEC=1,
        MAX_EXEC_TIMEOUT_MS=30_000,
    )


@pytest.fixture
def odd_server() -> Iterator[OddServer]:
    """Start an HTTP server with scripted answers, such as the service never sends."""
    with OddServer() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a temporary folder the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
