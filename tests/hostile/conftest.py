"""The service that is attacked, and the canary: a client that notices the effects of attacks on others."""

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import LIGHT, serving
from tests.support import waiting
from tests.support.process import Service
from tests.support.session import Session, StandingSession, live_sessions, open_session

MEGABYTE: Final = 1024 * 1024
PATIENCE_SEC: Final = 2
_PRINTS: Final = 5
_SOON_SEC: Final = 60.0
_NOISE_SEC: Final = 0.05
"""An answer may take this much longer, as other processes use the machine too."""
_DESCRIPTORS: Final = 24
"""Clients of the tests may hold this many connections more."""
_CONTAINER_DESCRIPTORS: Final = 8
"""The service has at most this many connections to a container, those of the pool's surplus included."""
_GROWTH_KB: Final = 128 * 1024
"""The service's memory may grow by this much during an attack: a few times what one call may use."""


@pytest.fixture(scope="session")
def target(open_service: Callable[..., Service]) -> Iterator[Service]:
    """The service that is attacked. Its limits are ordinary, and small enough to be reached fast."""
    yield from serving(
        open_service,
        **LIGHT,
        POOL_SIZE=2,
        MAX_CONTAINERS=8,
        QUEUE_SIZE=8,
        MAX_EXEC_TIMEOUT_MS=30_000,
        CPU_TIME_LIMIT_SEC=15,
        IDLE_CPU_SEC=60,
        MEMORY_LIMIT_MB=128,
        WORKSPACE_SIZE_MB=32,
        TMP_SIZE_MB=16,
        MAX_FILE_SIZE_MB=4,
        MAX_OUTPUT_FILES=64,
        MAX_CONNECTIONS=400,
        CLIENT_TIMEOUT_SEC=PATIENCE_SEC,
        KEY_HISTORY_MB=48,
        KEEP_CODE="1",
        ALLOWED_HOSTS="allowed.example,*.wild.example",
    )


def _pace() -> float:
    """Return the seconds that a fixed piece of work takes now, as a measure of the machine's speed."""
    began = time.perf_counter()
    sum(range(400_000))
    return time.perf_counter() - began


class Canary:
    """Another client of a service, which measures the service's answers and what it holds."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._session: Session = open_session(service, ttl_seconds=3600)
        self._pace = min(_pace() for _ in range(5))
        self._session.printed("print(1)")
        self._usual = statistics.median(self._times() * 2)

    def close(self) -> None:
        """Delete the session of this client."""
        self._session.delete()

    def _times(self) -> list[float]:
        """Run `print(1)` a few times, and return the seconds that each run takes."""
        times = []
        for _ in range(_PRINTS):
            began = time.perf_counter()
            assert self._session.printed("print(1)") == "1"
            times.append(time.perf_counter() - began)
        return times

    def descriptors(self) -> int:
        """Return the number of descriptors that the service's process has open."""
        return len(os.listdir(f"/proc/{self._service.process.pid}/fd"))

    def containers(self) -> set[str]:
        """Return the ids of the service's containers."""
        return self._service.engine.kernels(self._service.instance_id)

    def is_at_rest(self) -> bool:
        """Return whether every container is in the pool or of a session, and none starts or runs code."""
        pool = self._service.pool()
        # Clean containers that are more than the target stay for a while, for their key.
        at_rest = pool["ready"] >= pool["target"] and pool["starting"] == pool["busy"] == 0
        return at_rest and len(self.containers()) == pool["ready"] + len(live_sessions(self._service.api))

    def files(self) -> set[str]:
        """Return the names of the stored files, including unfinished ones."""
        return self._service.stored()

    def is_as_fast_as_usual(self) -> bool:
        """Return whether `print(1)` takes at most twice its usual time, at the machine's present speed."""
        pace = max(1.0, min(_pace() for _ in range(3)) / self._pace)
        return statistics.median(self._times()) <= (2 * self._usual + _NOISE_SEC) * pace

    def forget_files(self, before: set[str]) -> None:
        """Delete the files that were stored since `before`."""
        for name in self.files() - before:
            self._service.api.http.delete(f"/v1/files/{Path(name).name}")


def soon(condition: Callable[[], bool], seconds: float = _SOON_SEC) -> bool:
    """Wait until a condition is true, and return whether it was in time."""
    return waiting.soon(condition, seconds)


class MemoryWatch:
    """Measures the most memory that a service has while the block runs."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self.before_kb = self.peak_kb = service.resident_kb()

    @property
    def growth_kb(self) -> int:
        """Growth since the block began, in KiB."""
        return self.peak_kb - self.before_kb

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.peak_kb = max(self.peak_kb, self._service.resident_kb())

    def __enter__(self) -> "MemoryWatch":
        self._watcher.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._watcher.join()


@pytest.fixture(scope="session")
def canary_client(target: Service) -> Iterator[Canary]:
    """Another client of the service that is attacked."""
    canary = Canary(target)
    yield canary
    canary.close()


@pytest.fixture
def canary(target: Service, canary_client: Canary) -> Iterator[None]:
    """Check after the test that the attacked service is unharmed."""
    with unharmed(target, canary_client):
        yield


@contextmanager
def unharmed(target: Service, canary_client: Canary) -> Iterator[None]:
    """Check after the block that a service is as fast as before, and holds no more than before.

    Containers, descriptors, memory and disk have to return to what they were.
    """
    assert soon(canary_client.is_at_rest)
    files, containers = canary_client.files(), canary_client.containers()
    descriptors = canary_client.descriptors()
    with MemoryWatch(target) as watch:
        yield
    assert target.running, "the service has stopped"
    assert watch.growth_kb < _GROWTH_KB, f"grew by {watch.growth_kb // 1024} MiB"
    if canary_client.containers() != containers:
        assert target.api.run("print(1)")["stdout"] == "1\n"
    assert soon(canary_client.is_as_fast_as_usual), "another client waits more than twice as long as usual"
    canary_client.forget_files(files)
    assert soon(lambda: canary_client.files() <= files), canary_client.files() - files
    assert soon(canary_client.is_at_rest), "there are too many or too few containers"
    assert soon(
        lambda: (
            canary_client.descriptors() - descriptors
            <= _DESCRIPTORS
            + _CONTAINER_DESCRIPTORS * max(0, len(canary_client.containers()) - len(containers))
        )
    ), canary_client.descriptors() - descriptors


@pytest.fixture(scope="session")
def standing(target: Service) -> Iterator[StandingSession]:
    """A session for attacks that do not need one of their own."""
    session = StandingSession(target, ttl_seconds=3600)
    yield session
    session.close()


@pytest.fixture
def session(standing: StandingSession, canary: None) -> Session:
    """The standing session with a new kernel and an empty workspace; the canary is checked afterwards."""
    alive = standing.alive()
    alive.restart()
    alive.bash("chmod 755 . ; find . -mindepth 1 -delete ; find /tmp -mindepth 1 -maxdepth 1 -type f -delete")
    return alive
