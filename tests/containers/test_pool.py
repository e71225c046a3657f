"""The pool's containers: made ahead, used once, replaced, and never left behind."""

import contextlib
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import StartService
from tests.support.api import problem
from tests.support.process import Service

pytestmark = pytest.mark.timeout(120)


def test_the_pool_fills_up_and_says_so(service: Service) -> None:
    """`POOL_SIZE` containers are ready, and `/ready` counts them."""
    assert len(service.settle()) == 2
    response = service.api.http.get("/ready")
    assert response.status_code == 200
    body = response.json()
    assert body["status"] == "ready"
    assert body["pool"] == {**body["pool"], "ready": 2, "starting": 0, "busy": 0, "target": 2}
    assert body["instance_id"] == service.instance_id


def test_a_container_serves_one_execution(service: Service) -> None:
    """The one that was used is destroyed, the others stay, and a new one takes its place."""
    before = service.settle()
    service.api.run("1")
    after = service.settle()
    assert len(before - after) == 1
    assert len(after - before) == 1


def test_more_callers_than_kernels_are_all_served(service: Service) -> None:
    """Eight callers at once over a pool of two each get their own answer."""
    with ThreadPoolExecutor(8) as threads:
        results = threads.map(lambda i: service.api.run(f"print({i})"), range(8))
    assert [result["stdout"] for result in results] == [f"{i}\n" for i in range(8)]


def test_an_empty_pool_makes_callers_wait_then_says_come_back(start_service: StartService) -> None:
    """A caller waits for a kernel; one too many, or too long, is 503 with `Retry-After`."""
    service = start_service(POOL_SIZE=1, MAX_CONTAINERS=1, QUEUE_SIZE=1, QUEUE_TIMEOUT_SEC=4)
    with ThreadPoolExecutor(3) as threads:
        # One runs a little, the next waits for the container that takes its place.
        first = threads.submit(service.api.run, "import time; time.sleep(0.5)")
        time.sleep(0.3)
        assert service.api.run("print('waited')")["stdout"] == "waited\n"
        assert first.result()["exit_code"] == 0

        # One runs long; the queue of one is taken; the third is turned away at once.
        service.settle()
        first = threads.submit(service.api.run, "import time; time.sleep(6.5)")
        time.sleep(0.5)
        began = time.monotonic()
        second = threads.submit(service.api.execute, "2")
        time.sleep(0.5)
        turned_away = service.api.execute("3")
        assert time.monotonic() - began < 2
        streamed = service.api.http.post("/v1/execute/stream", json={"code": "4"})
        refused = second.result()
        assert 3.5 < time.monotonic() - began < 6
        for response in (turned_away, streamed, refused):
            assert response.status_code == 503
            assert problem(response)["code"] == "no_capacity"
            assert int(response.headers["retry-after"]) >= 1
        assert first.result()["exit_code"] == 0
    assert service.api.run("print('again')")["stdout"] == "again\n"


def test_a_pool_of_none_makes_kernels_as_they_are_wanted(start_service: StartService) -> None:
    """With `POOL_SIZE=0` nothing waits, and the service is ready and serves all the same."""
    service = start_service(POOL_SIZE=0)
    assert service.settle() == set()
    assert service.api.run("print('served')")["stdout"] == "served\n"
    assert service.settle() == set()


def test_who_waits_gets_a_kernel_that_has_not_preloaded_yet(start_service: StartService) -> None:
    """It is there sooner; what it imports then is no more the user's memory than what others preload."""
    service = start_service(POOL_SIZE=0, KERNEL_PRELOAD="pandas", MEMORY_LIMIT_MB=64)
    code = "import sys; early = 'pandas' in sys.modules; import pandas; b = b'x' * (60 << 20); early"
    assert service.api.run(code)["stdout"] == "False\n"


def test_kernels_made_in_a_hurry_do_not_stay(start_service: StartService) -> None:
    """Where one is left when nobody waits any more, one that has preloaded everything takes its place."""
    service = start_service(POOL_SIZE=1, KERNEL_PRELOAD="numpy", LEASE_SEC=8)
    seen = "import sys; 'numpy' in sys.modules"
    service.settle()
    with ThreadPoolExecutor(4) as threads:
        early = [result["stdout"] for result in threads.map(lambda _: service.api.run(seen), range(4))]
    assert set(early) == {"True\n", "False\n"}
    time.sleep(2.5)  # Every two seconds the pool looks after what it has, see LEASE_SEC.
    service.settle()
    assert service.api.run(seen)["stdout"] == "True\n"


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_stopping_removes_every_container(start_service: StartService, with_signal: signal.Signals) -> None:
    """SIGTERM and Ctrl-C leave nothing, not even while code runs."""
    service = start_service(POOL_SIZE=2)
    service.settle()

    def outlive() -> None:
        # The connection may well break: the service stops.
        with contextlib.suppress(Exception):
            service.api.execute("import time; time.sleep(2)")

    caller = threading.Thread(target=outlive)
    caller.start()
    time.sleep(0.7)
    assert service.pool()["busy"] == 1
    began = time.monotonic()
    service.stop(with_signal)
    assert time.monotonic() - began < 20
    assert service.engine.owned(service.instance_id) == set()
    caller.join(20)
    assert not caller.is_alive()


def test_a_crash_is_cleaned_up_at_the_next_start_and_only_ones_own(
    start_service: StartService, service: Service
) -> None:
    """After kill -9 a start with the same storage removes what was left, and keeps the files.

    A service with another storage on the same engine keeps its containers through it all.
    """
    theirs = service.settle()
    mine = start_service(POOL_SIZE=2)
    assert mine.instance_id != service.instance_id
    left = mine.settle()
    file_id = mine.api.upload(b"kept")
    identity = mine.instance_id
    mine.crash()
    assert mine.engine.kernels(identity) == left, "a crash removes nothing by itself"
    mine.restart()
    assert mine.instance_id == identity
    fresh = mine.settle()
    assert not fresh & left
    assert mine.api.download(file_id) == b"kept"
    assert mine.api.run("print('works')")["stdout"] == "works\n"
    mine.stop()
    assert mine.engine.owned(identity) == set()
    assert service.settle() == theirs
    assert service.api.run("print('untouched')")["stdout"] == "untouched\n"


def test_a_container_removed_from_outside_is_replaced(service: Service) -> None:
    """`docker rm -f` of waiting kernels is noticed; callers in between are served all the same."""
    before = service.settle()
    for container_id in before:
        service.engine.remove(container_id)
    for i in range(2):
        assert service.api.run(f"print({i})")["stdout"] == f"{i}\n"
    after = service.settle()
    assert len(after) == 2 and not before & after


def test_a_container_removed_unused_is_noticed(service: Service) -> None:
    """Nobody has to call for the pool to find out that a kernel is gone."""
    victim, *_ = sorted(service.settle())
    service.engine.remove(victim)
    deadline = time.monotonic() + 30
    while len(service.engine.kernels(service.instance_id)) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    after = service.settle()
    assert len(after) == 2 and victim not in after
