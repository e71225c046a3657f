"""Parts of the cluster fail under running kernels: pods, the API server, the node's kubelet."""

import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.faults.conftest import canary
from tests.faults.test_kills import check_ended
from tests.sessions.test_session_survival import container_of
from tests.support.cluster import PodEngine
from tests.support.process import Service
from tests.support.session import new_session

pytestmark = pytest.mark.timeout(180)

OUTAGE_SEC = 30.0
ANSWER_SEC = 60.0


def test_execution_ends_when_its_pod_is_deleted(on_pods: Service, pods: PodEngine) -> None:
    """The caller gets an error long before the code's timeout, and the next caller is served."""
    with ThreadPoolExecutor() as threads, new_session(on_pods) as session:
        name = container_of(session)
        running = threads.submit(session.execute, "import time; time.sleep(25)", timeout_ms=30_000)
        while session.describe()["state"] != "busy":
            time.sleep(0.02)
        pods.remove(name)
        check_ended(running.result(ANSWER_SEC))
        assert session.wait_until_ended()["reason"] == "lost"
    canary(on_pods)


def test_service_survives_the_loss_of_the_api_server(on_pods: Service, pods: PodEngine) -> None:
    """For half a minute sessions and ready kernels serve, and /health is an error. Then all is well."""
    on_pods.settle()
    with new_session(on_pods) as session:
        session.run("x = 41")
        with pods.cluster.without("kube-apiserver"):
            began = time.monotonic()
            assert on_pods.api.run("print(6 * 7)")["stdout"] == "42\n", "by a kernel that was ready"
            assert "the cluster's API" in on_pods.api.http.get("/health").text
            while time.monotonic() - began < OUTAGE_SEC:
                assert session.printed("x += 1; print(x > 41)") == "True"
                time.sleep(1)
        canary(on_pods)
        assert session.printed("print(x > 41)") == "True"
    on_pods.settle(60)


def test_sessions_survive_the_loss_of_the_kubelet(on_pods: Service, pods: PodEngine) -> None:
    """The node's kernels run on without it. No new kernel starts there until it is back."""
    on_pods.settle()
    with new_session(on_pods) as session:
        session.run("x = 41")
        with pods.cluster.without("kubelet"):
            for _ in range(5):
                assert session.printed("x += 1; print(x > 41)") == "True"
                time.sleep(0.5)
        assert session.printed("print(x > 41)") == "True"
    canary(on_pods)
    on_pods.settle(60)


def test_loss_of_a_node_ends_its_sessions_as_lost(on_pods: Service, pods: PodEngine) -> None:
    """The cluster evicts the pods of a node that does not answer. The pool refills."""
    on_pods.settle()
    with new_session(on_pods) as session:
        session.run("x = 41")
        name = container_of(session)
        path = f"/api/v1/namespaces/{pods.namespace}/pods/{name}"
        (container,) = pods.cluster.call("GET", path)["status"]["containerStatuses"]
        with pods.cluster.without("kubelet"), frozen(container["containerID"].removeprefix("docker://")):
            # An eviction leaves the pod until its node reports its end.
            pods.cluster.call("DELETE", path, {"gracePeriodSeconds": 30})
            assert session.wait_until_ended(60)["reason"] == "lost"
    canary(on_pods)
    on_pods.settle(60)


@contextmanager
def frozen(container_id: str) -> Iterator[None]:
    """Freeze a container until the block ends: it accepts connections, and does not answer."""
    subprocess.run(["docker", "pause", container_id], check=True, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["docker", "unpause", container_id], check=True, stdout=subprocess.DEVNULL)


def test_the_service_comes_back_to_its_sessions(pods: PodEngine, start_on: Callable[..., Service]) -> None:
    """After a kill it finds the session's pod again, and removes the pods of its old pool."""
    service = start_on(pods, POOL_SIZE=1)
    with new_session(service) as session:
        name = container_of(session)
        session.run("x = 41")
        old_pool = service.engine.kernels(service.instance_id) - {name}
        service.crash()
        service.restart()
        assert session.printed("print(x + 1)") == "42"
        assert not old_pool & service.engine.kernels(service.instance_id)
    service.finish()
