"""If a pod does not start, one clear sentence says why, at the start and later."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.conftest import Refusal
from tests.support.api import problem
from tests.support.cluster import FOLDER, PodEngine
from tests.support.process import Service

CANNOT_START = (1, 3)

TROUBLES: dict[str, tuple[dict[str, str], str]] = {
    "an image that is not on the node": (
        {"PYTHON_EXECUTOR_DOCKER_IMAGE": "no-such-image:1"},
        "the kernel image 'no-such-image:1' is not there; it could not be pulled: ErrImageNeverPull",
    ),
    "a registry that does not answer": (
        {"PYTHON_EXECUTOR_DOCKER_IMAGE": "127.0.0.1:1/no-such-image:1"},
        "the kernel image '127.0.0.1:1/no-such-image:1' is not there; it could not be pulled: ",
    ),
    "no node with the labels": (
        {"KUBERNETES_NODE_SELECTOR": "no=where", "KUBERNETES_START_TIMEOUT_SEC": "3"},
        "a kernel container did not start: not within 3 s: no node takes it: 0/1 nodes are available",
    ),
    "no node with so many CPUs": (
        {"KERNEL_CPUS": "9999", "KUBERNETES_START_TIMEOUT_SEC": "3"},
        "Insufficient cpu",
    ),
    "an account without rights": (
        {"KUBECONFIG": str(FOLDER / "kubeconfig.nobody")},
        "this service's account lacks a right in the cluster's namespace",
    ),
    "a runtime that is not there": (
        {"KERNEL_RUNTIME": "no-such-runtime"},
        "no runtime 'no-such-runtime' (KERNEL_RUNTIME); `kubectl get runtimeclasses` lists the runtimes",
    ),
    "a namespace that is not there": (
        {"KUBERNETES_NAMESPACE": "no-such-namespace"},
        "there is no namespace 'no-such-namespace' (KUBERNETES_NAMESPACE)",
    ),
    "a kubeconfig that is not there": (
        {"KUBECONFIG": "/no/such/file"},
        "no cluster is configured",
    ),
}
"""Settings, and a part of the service's last message."""


@pytest.fixture(scope="module")
def refusals(refused: Callable[..., Refusal]) -> Iterator[Callable[[str], Refusal]]:
    """Run all starts, two at a time. Each test asks for one of them."""
    with ThreadPoolExecutor(2) as threads:
        starts: dict[str, Future[Refusal]] = {
            name: threads.submit(refused, **settings) for name, (settings, _) in TROUBLES.items()
        }
        yield lambda name: starts[name].result()


@pytest.mark.parametrize("name", TROUBLES)
def test_service_does_not_start_with(name: str, refusals: Callable[[str], Refusal]) -> None:
    """The service ends with a sentence that names the problem, and without a traceback."""
    refusal = refusals(name)
    assert refusal.exit_code in CANNOT_START, refusal.log
    assert TROUBLES[name][1] in refusal.log
    assert "Traceback" not in refusal.log


def test_service_ends_if_the_api_does_not_answer(refused: Callable[..., Refusal], tmp_path: Path) -> None:
    """The kubeconfig has a wrong address. The service reports it within seconds."""
    config = json.loads((FOLDER / "kubeconfig").read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    refusal = refused(KUBECONFIG=tmp_path / "kubeconfig")
    assert refusal.exit_code in CANNOT_START
    assert "the container engine does not answer: the cluster's API: " in refusal.log
    assert "Traceback" not in refusal.log


def _limit(engine: PodEngine, pods: int) -> None:
    """Limit the number of pods in the namespace."""
    path = f"/api/v1/namespaces/{engine.namespace}/resourcequotas"
    hard = {"hard": {"pods": str(pods)}}
    found: list[dict[str, Any]] = engine.cluster.call("GET", path)["items"]
    if found:
        engine.cluster.call("PUT", f"{path}/few", found[0] | {"spec": hard})
    else:
        engine.cluster.call("POST", path, {"metadata": {"name": "few"}, "spec": hard})

    def is_counted() -> bool:
        status = engine.cluster.call("GET", f"{path}/few").get("status", {})
        return bool(status.get("hard") == hard["hard"] and status.get("used"))

    engine.cluster.wait_until(is_counted)


def test_used_up_quota_is_reported_and_recovered_from(start_on: Callable[..., Service]) -> None:
    """Ready kernels serve. Then callers get the reason, and are served once there is room."""
    engine = PodEngine()
    try:
        _limit(engine, 1)
        service = start_on(engine, POOL_SIZE=1, QUEUE_TIMEOUT_SEC=2)
        service.settle()
        with ThreadPoolExecutor() as threads:
            # The only pod is busy, so there is no room for another.
            busy = threads.submit(service.api.run, "import time; time.sleep(6)", timeout_ms=10_000)
            time.sleep(1)
            refusal = problem(service.api.execute("print(1)"))
            assert "quota is used up" in refusal["detail"], refusal
            assert "exceeded quota" in service.api.http.get("/health").text
            assert busy.result()["exit_code"] == 0
        _limit(engine, 4)
        service.settle(40)
        assert service.api.run("print(1)")["stdout"] == "1\n"
        service.finish()
    finally:
        engine.close()
