"""The pool's containers: launched in advance, used once, replaced, and never left behind."""

import contextlib
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.operations.pool_settings import REUSE
from tests.conftest import StartService
from tests.support.api import problem
from tests.support.process import Service
from tests.support.waiting import soon

pytestmark = pytest.mark.timeout(120)


def test_pool_fills_up_and_ready_counts_its_containers(service: Service) -> None:
    """`POOL_SIZE` containers are ready, and `/ready` counts them."""
    assert len(service.settle()) == 2
    response = service.api.http.get("/ready")
    assert response.status_code == 200
    body = response.json()
    assert body["status"] == "ready"
    assert body["pool"] == {**body["pool"], "ready": 2, "starting": 0, "busy": 0, "target": 2}
    assert body["instance_id"] == service.instance_id
    assert body["reuse"] == REUSE["tenant"], "the default is to reuse containers"


def test_a_container_serves_one_execution(start_service: StartService) -> None:
    """Without reuse, the used container is removed, the others stay, and a new one replaces it."""
    service = start_service(CONTAINER_REUSE="never", POOL_SIZE=2)
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


def test_callers_wait_for_a_kernel_and_are_then_refused(start_service: StartService) -> None:
    """A caller waits for a kernel. One caller too many, or a wait too long, is 429 with `Retry-After`."""
    service = start_service(
        POOL_SIZE=1, MAX_CONTAINERS=1, QUEUE_SIZE=1, QUEUE_TIMEOUT_SEC=15, MAX_EXEC_TIMEOUT_MS=60_000
    )
    with ThreadPoolExecutor() as threads:
        # The first runs for a short time, and the second waits for the next container.
        first = threads.submit(service.api.run, "import time; time.sleep(0.5)")
        time.sleep(0.3)
        assert service.api.run("print('waited')")["stdout"] == "waited\n"
        assert first.result()["exit_code"] == 0

        # The first runs long, the second fills the queue of one, the third is refused at once.
        service.settle()
        with service.api.open_stream("import time; time.sleep(600)", timeout_ms=60_000):
            assert soon(lambda: service.pool()["busy"] == 1)
            began = time.monotonic()
            second = threads.submit(service.api.execute, "2")
            time.sleep(1)
            turned_away = service.api.execute("3")
            streamed = service.api.http.post("/v1/execute/stream", json={"code": "4"})
            assert not second.done(), "a call that may not wait has waited as long as one that may"
            refused = second.result()
            assert time.monotonic() - began > 14.5
        for response in (turned_away, streamed, refused):
            assert response.status_code == 429
            assert problem(response)["code"] == "all_kernels_busy"
            assert int(response.headers["retry-after"]) >= 1
    service.settle()
    assert service.api.run("print('again')")["stdout"] == "again\n"


def test_pool_of_size_zero_launches_kernels_on_demand(start_service: StartService) -> None:
    """With `POOL_SIZE=0` no kernel is kept ready, and the service is ready and serves."""
    service = start_service(POOL_SIZE=0)
    assert service.settle() == set()
    assert service.api.run("print('served')")["stdout"] == "served\n"
    assert service.settle() == set()


def test_waiting_caller_gets_a_kernel_without_preloading(start_service: StartService) -> None:
    """The kernel starts sooner. Modules that it imports later do not count as the user's memory.

    With reuse every kernel has the modules, because its container serves again.
    """
    service = start_service(CONTAINER_REUSE="never", POOL_SIZE=0, KERNEL_PRELOAD="pandas", MEMORY_LIMIT_MB=64)
    code = "import sys; early = 'pandas' in sys.modules; import pandas; b = b'x' * (60 << 20); early"
    assert service.api.run(code)["stdout"] == "False\n"


def test_module_that_cannot_be_preloaded_is_a_warning_at_start(start_service: StartService) -> None:
    """A misspelt name would otherwise only make calls slower."""
    service = start_service(POOL_SIZE=1, KERNEL_PRELOAD="json,numpyy")
    log = service.log_tail(1000)
    assert "KERNEL_PRELOAD: numpyy cannot be imported" in log
    assert "KERNEL_PRELOAD: json" not in log
    assert service.api.run("1 + 1")["stdout"] == "2\n"


def test_kernels_without_preloading_are_replaced(start_service: StartService) -> None:
    """When no caller waits any more, a kernel with everything preloaded replaces such a kernel."""
    service = start_service(CONTAINER_REUSE="never", POOL_SIZE=1, KERNEL_PRELOAD="numpy", LEASE_SEC=8)
    code = "import sys; 'numpy' in sys.modules"
    service.settle()
    with ThreadPoolExecutor(4) as threads:
        early = [result["stdout"] for result in threads.map(lambda _: service.api.run(code), range(4))]
    assert set(early) == {"True\n", "False\n"}
    time.sleep(5)  # The pool's upkeep runs every two seconds, see LEASE_SEC.
    service.settle()
    assert service.api.run(code)["stdout"] == "True\n"


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_stopping_removes_every_container(start_service: StartService, with_signal: signal.Signals) -> None:
    """SIGTERM and Ctrl-C leave no container, not even while code runs."""
    service = start_service(POOL_SIZE=2)
    service.settle()

    def call() -> None:
        # The connection may break, because the service stops.
        with contextlib.suppress(Exception):
            service.api.execute("import time; time.sleep(9)")

    caller = threading.Thread(target=call)
    caller.start()
    assert soon(lambda: service.pool()["busy"] == 1)
    service.stop(with_signal)
    assert service.engine.owned(service.instance_id) == set()
    caller.join(60)
    assert not caller.is_alive()


def test_a_crash_is_cleaned_up_at_the_next_start_and_only_ones_own(
    start_service: StartService, service: Service
) -> None:
    """After kill -9, a start with the same storage removes the old containers, and keeps the files.

    A service with another storage on the same engine keeps its containers all the time.
    """
    first_ids = service.settle()
    second = start_service(POOL_SIZE=2)
    assert second.instance_id != service.instance_id
    ids = second.settle()
    file_id = second.api.upload(b"kept")
    identity = second.instance_id
    second.crash()
    assert second.engine.kernels(identity) == ids, "a crash removes nothing by itself"
    second.restart()
    assert second.instance_id == identity
    fresh = second.settle()
    assert not fresh & ids
    assert second.api.download(file_id) == b"kept"
    assert second.api.run("print('works')")["stdout"] == "works\n"
    second.stop()
    assert second.engine.owned(identity) == set()
    assert service.settle() == first_ids
    assert service.api.run("print('untouched')")["stdout"] == "untouched\n"


def test_a_container_removed_from_outside_is_replaced(service: Service) -> None:
    """The pool notices `docker rm -f` of ready kernels. Calls in between are served."""
    before = service.settle()
    for container_id in before:
        service.engine.remove(container_id)
    for i in range(2):
        assert service.api.run(f"print({i})")["stdout"] == f"{i}\n"
    after = service.settle()
    assert len(after) == 2 and not before & after


def test_a_container_removed_unused_is_noticed(service: Service) -> None:
    """The pool finds out without a call that a kernel is gone."""
    victim, *_ = sorted(service.settle())
    service.engine.remove(victim)
    deadline = time.monotonic() + 60
    while len(service.engine.kernels(service.instance_id)) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    after = service.settle()
    assert len(after) == 2 and victim not in after
