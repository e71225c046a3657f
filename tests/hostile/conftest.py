"""The service that is attacked, and the canary: what another client notices of an attack."""

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
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
_SOON_SEC: Final = 25.0
_NOISE_SEC: Final = 0.05
"""What an answer may take longer on a machine that others use as well."""
_DESCRIPTORS: Final = 12
"""Connections that clients of the tests, and the pool, may hold more than before."""
_GROWTH_KB: Final = 96 * 1024
"""What the service's memory may grow by during an attack: a few times what one call may hold."""


@pytest.fixture(scope="session")
def target(open_service: Callable[..., Service]) -> Iterator[Service]:
    """The service that is attacked: ordinary limits, small enough to run into them fast."""
    yield from serving(
        open_service,
        **LIGHT,
        POOL_SIZE=2,
        MAX_CONTAINERS=8,
        QUEUE_SIZE=8,
        MAX_EXEC_TIMEOUT_MS=30_000,
        CPU_TIME_LIMIT_SEC=15,
        MEMORY_LIMIT_MB=128,
        WORKSPACE_SIZE_MB=32,
        TMP_SIZE_MB=16,
        MAX_FILE_SIZE_MB=4,
        MAX_OUTPUT_FILES=64,
        CLIENT_TIMEOUT_SEC=PATIENCE_SEC,
    )


def _pace() -> float:
    """Seconds that a fixed piece of work takes now: how fast the machine is for us."""
    began = time.perf_counter()
    sum(range(400_000))
    return time.perf_counter() - began


class Canary:
    """Another client of a service, and a look at what the service holds."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._session: Session = open_session(service, ttl_seconds=3600)
        self._pace = min(_pace() for _ in range(5))
        self._session.printed("print(1)")
        self._usual = statistics.median(self._times() * 2)

    def close(self) -> None:
        """End its session."""
        self._session.delete()

    def _times(self) -> list[float]:
        """Seconds that `print(1)` takes, a few times over, and it must print 1."""
        times = []
        for _ in range(_PRINTS):
            began = time.perf_counter()
            assert self._session.printed("print(1)") == "1"
            times.append(time.perf_counter() - began)
        return times

    def descriptors(self) -> int:
        """Files, sockets and all that the service's process has open."""
        return len(os.listdir(f"/proc/{self._service.process.pid}/fd"))

    def containers(self) -> set[str]:
        """Ids of the containers there are."""
        return self._service.engine.kernels(self._service.instance_id)

    def is_settled(self) -> bool:
        """Whether there are as many containers as there should be, and nothing is under way."""
        pool = self._service.pool()
        at_rest = pool["ready"] == pool["target"] and pool["starting"] == pool["busy"] == 0
        return at_rest and len(self.containers()) == pool["ready"] + len(live_sessions(self._service.api))

    def files(self) -> set[str]:
        """Stored files, the unfinished ones included."""
        return self._service.stored()

    def sings(self) -> bool:
        """Whether `print(1)` takes no more than twice its usual time, at the machine's pace now."""
        pace = max(1.0, min(_pace() for _ in range(3)) / self._pace)
        return statistics.median(self._times()) <= (2 * self._usual + _NOISE_SEC) * pace

    def forget_files(self, before: set[str]) -> None:
        """Delete what was stored since."""
        for name in self.files() - before:
            self._service.api.http.delete(f"/v1/files/{Path(name).name}")


def soon(condition: Callable[[], bool], seconds: float = _SOON_SEC) -> bool:
    """Whether a condition comes true in time."""
    return waiting.soon(condition, seconds)


class MemoryWatch:
    """The most memory a service had for as long as the block."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self.before_kb = self.peak_kb = service.resident_kb()

    @property
    def growth_kb(self) -> int:
        """By how much it grew."""
        return self.peak_kb - self.before_kb

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.peak_kb = max(self.peak_kb, self._service.resident_kb())

    def __enter__(self) -> "MemoryWatch":
        self._watcher.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._watcher.join()


@pytest.fixture(scope="session")
def bird(target: Service) -> Iterator[Canary]:
    """The other client of the service that is attacked."""
    canary = Canary(target)
    yield canary
    canary.close()


@pytest.fixture
def canary(target: Service, bird: Canary) -> Iterator[None]:
    """After the test another client's `print(1)` is as fast as ever, and nothing is held that was not.

    Containers, descriptors, memory and disk come back to where they were.
    """
    assert soon(bird.is_settled)
    files, descriptors, containers = bird.files(), bird.descriptors(), bird.containers()
    with MemoryWatch(target) as watch:
        yield
    assert target.running, "the service has ended"
    assert watch.growth_kb < _GROWTH_KB, f"grew by {watch.growth_kb // 1024} MiB"
    if bird.containers() != containers:
        assert target.api.run("print(1)")["stdout"] == "1\n"
    assert soon(bird.sings), "another client waits more than twice as long as usual"
    bird.forget_files(files)
    assert soon(lambda: bird.files() <= files), bird.files() - files
    assert soon(bird.is_settled), "containers are left, or missing"
    assert soon(lambda: bird.descriptors() <= descriptors + _DESCRIPTORS), bird.descriptors() - descriptors


@pytest.fixture(scope="session")
def standing(target: Service) -> Iterator[StandingSession]:
    """A session for attacks that need none of their own."""
    session = StandingSession(target, ttl_seconds=3600)
    yield session
    session.close()


@pytest.fixture
def session(standing: StandingSession, canary: None) -> Session:
    """That session with a new kernel and an empty workspace; the canary sings afterwards."""
    alive = standing.alive()
    alive.restart()
    alive.bash("chmod 755 . ; find . -mindepth 1 -delete")
    return alive
