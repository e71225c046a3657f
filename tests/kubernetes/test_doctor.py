"""`code-interpreter-api doctor` where kernels are pods, on a sound cluster and with real problems."""

import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.doctor.cluster import judge_cluster, judge_room
from sessions.containers.kubernetes.facts import ClusterFacts, Node, Quota, amount, node_of, quotas_of
from tests.operations.test_doctor import Report, examined
from tests.support.cluster import FOLDER, PodEngine
from tests.support.process import free_port

pytestmark = pytest.mark.timeout(150)

NEEDED = {
    "pods": "1",
    "requests.cpu": "100m",
    "requests.memory": "200Mi",
    "limits.cpu": "1",
    "limits.memory": "700Mi",
}
NODE = Node("a", takes_pods=True, room={"cpu": 8, "memory": 24 << 30, "pods": 110}, kernel="6", runtime="c")
FACTS = ClusterFacts("v1.31.2", (), True, {}, (), "there", (NODE,))


@contextmanager
def examining(folder: Path, pods: PodEngine, **settings: Any) -> Iterator[Future[Report]]:
    """Start the doctor before the tests that need its report."""
    environment = {"PORT": free_port(), "FILE_STORAGE_DIR": folder, **pods.settings, **settings}
    with ThreadPoolExecutor() as threads:
        yield threads.submit(examined, **environment)


@pytest.fixture(scope="module")
def healthy_report(pods: PodEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[Report]]:
    """Start the doctor on a sound cluster, in a namespace with a large quota."""
    path = f"/api/v1/namespaces/{pods.namespace}/resourcequotas"
    hard = {"hard": {"count/pods": "50", "limits.memory": "60Gi", "secrets": "50"}}
    pods.cluster.call("POST", path, {"metadata": {"name": "enough"}, "spec": hard})
    with examining(tmp_path_factory.mktemp("well"), pods) as report:
        yield report


def test_sound_cluster_has_no_failures(healthy_report: Future[Report], pods: PodEngine) -> None:
    """The doctor checks cluster, account, namespace, quota and nodes, and a pod's isolation and limits."""
    report = healthy_report.result()
    assert report.exit_code == 0 and report.levels("fail") == set(), report
    accepted_warnings = {"cluster", "stored files", "CPU", "nodes"}
    assert report.levels("warn") <= accepted_warnings
    found = {name: finding["seen"] for name, finding in report.findings.items()}
    assert f"pods of namespace {pods.namespace} at https://" in found["mode"]
    assert found["cluster"].startswith("v1.")
    assert found["rights"].startswith("all that is needed")
    assert found["isolation"].startswith("all 2") and "were killed at once" in found["processes"]
    assert found["memory of a container"].startswith("ended at the limit of ")
    assert found["disks of a container"].startswith("full in order")
    assert "more pods of " in found["quotas"] and " of enough; " in found["quotas"]
    assert found["nodes"].startswith("1 of 1 take pods, with room for ")


def test_doctor_leaves_no_pods(healthy_report: Future[Report], pods: PodEngine) -> None:
    """The doctor removes its pods even after their limits were exceeded."""
    healthy_report.result()
    pods.cluster.wait_until(lambda: not pods.cluster.pods(pods.namespace))


def test_account_without_rights_is_found(pods: PodEngine, tmp_path: Path) -> None:
    """The report names the missing rights, and no pod is launched."""
    without_rights = {"KUBECONFIG": str(FOLDER / "kubeconfig.nobody")}
    found = examined(FILE_STORAGE_DIR=tmp_path, **pods.settings | without_rights)
    assert found.exit_code == 1 and found.levels("fail") == {"rights"}
    seen = found.findings["rights"]["seen"]
    assert seen == "the account may not create, get, list, watch, delete pods"
    assert "has no right to, and needs none" in found.findings["namespace"]["seen"]
    assert "not looked at" in found.findings["image, isolation, limits"]["seen"]


def test_missing_namespace_and_runtime_are_found(pods: PodEngine, tmp_path: Path) -> None:
    """Each is a finding with a remedy."""
    invalid = {"KUBERNETES_NAMESPACE": "no-such-namespace", "KERNEL_RUNTIME": "no-such-runtime"}
    found = examined(FILE_STORAGE_DIR=tmp_path, **pods.settings | invalid)
    assert found.levels("fail") == {"namespace", "runtime"}
    assert found.findings["runtime"]["remedy"] == "`kubectl get runtimeclasses` lists them"


def test_pod_security_that_refuses_the_pods_is_found(tmp_path: Path) -> None:
    """The doctor reads the namespace's label, before a pod is launched."""
    engine = PodEngine()
    try:
        label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
        engine.cluster.patch(f"/api/v1/namespaces/{engine.namespace}", label)
        found = examined(FILE_STORAGE_DIR=tmp_path, **engine.settings)
        assert found.levels("fail") == {"namespace"}
        remedy = found.findings["namespace"]["remedy"]
        assert remedy.endswith(f"namespace {engine.namespace} pod-security.kubernetes.io/enforce=privileged")
    finally:
        engine.close()


def test_image_that_no_node_has_is_found(pods: PodEngine, tmp_path: Path) -> None:
    """A launch finds it, and the finding is about the image."""
    missing = {"PYTHON_EXECUTOR_DOCKER_IMAGE": f"no-such-image:{uuid.uuid4().hex[:8]}"}
    found = examined(FILE_STORAGE_DIR=tmp_path, **pods.settings | missing)
    assert found.levels("fail") == {"image"}
    assert "ErrImageNeverPull" in found.findings["image"]["seen"]


def test_missing_cluster_is_found(tmp_path: Path) -> None:
    """All other checks still run."""
    found = examined(FILE_STORAGE_DIR=tmp_path, EXECUTOR_BACKEND="kubernetes", KUBECONFIG="/no/such/file")
    assert found.levels("fail") == {"engine"}
    assert "no cluster is configured" in found.findings["engine"]["seen"]
    assert {"registry", "stored files", "clock"} <= found.levels("ok") | found.levels("warn")


# Judgements, which need no cluster ---------------------------------------------------------------


def levels(facts: ClusterFacts) -> dict[str, str]:
    """Return the levels of the findings that are not ok."""
    return {
        found.check: found.level
        for found in judge_room(facts, NEEDED, ready=2, most=16)
        if found.level != "ok"
    }


def changed(**fields: Any) -> ClusterFacts:
    """Return the facts of a sound cluster, with some changed."""
    return ClusterFacts(**vars(FACTS) | fields)


@pytest.mark.parametrize(
    ("quota", "level"),
    [
        (Quota("q", "pods", hard=16, used=0), None),
        (Quota("q", "pods", hard=16, used=16), None),
        (Quota("q", "pods", hard=15, used=0), "warn"),
        (Quota("q", "count/pods", hard=1, used=0), "fail"),
        (Quota("q", "memory", hard=1 << 30, used=0), "warn"),
        (Quota("q", "limits.cpu", hard=1, used=0), "fail"),
        (Quota("q", "secrets", hard=0, used=0), None),
    ],
)
def test_quotas_are_compared_with_what_the_pool_needs(quota: Quota, level: str | None) -> None:
    """Too little for the ready kernels is a failure, too little for the maximum a warning."""
    assert levels(changed(quotas=(quota,))).get("quotas") == level


def test_nodes_are_compared_with_what_the_pool_needs() -> None:
    """CPUs, memory and pods count. Nodes that take no pods do not."""
    closed = Node("b", takes_pods=False, room=NODE.room, kernel="6", runtime="c")
    small = Node(
        "c", takes_pods=True, room={"cpu": 1, "memory": 1 << 30, "pods": 110}, kernel="6", runtime="c"
    )
    assert levels(FACTS) == {}
    assert levels(changed(nodes=(small, closed))) == {"nodes": "warn"}
    assert levels(changed(nodes=(closed,))) == levels(changed(nodes=())) == {"nodes": "fail"}
    assert levels(changed(nodes="forbidden", quotas="forbidden")) == {}


@pytest.mark.parametrize(
    ("fields", "check", "level"),
    [
        ({}, "cluster", "ok"),
        ({"version": "v1.21.0-eks"}, "cluster", "warn"),
        ({"version": "v1.19.3"}, "cluster", "fail"),
        ({"missing": ("watch",)}, "rights", "fail"),
        ({"reads_events": False}, "rights", "warn"),
        ({"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}, "namespace", "fail"),
        ({"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}, "namespace", "ok"),
        ({"labels": "forbidden"}, "namespace", "ok"),
        ({"runtime_class": "missing"}, "runtime", "fail"),
        ({"runtime_class": "forbidden"}, "runtime", "ok"),
    ],
)
def test_each_fact_of_a_cluster_has_a_finding(fields: dict[str, Any], check: str, level: str) -> None:
    """A finding that is not ok has a remedy."""
    found = {finding.check: finding for finding in judge_cluster(changed(**fields), "here", "gvisor")}
    assert found[check].level == level
    assert all(finding.remedy for finding in found.values() if finding.level != "ok")


def test_quantities_and_objects_are_parsed() -> None:
    """Quantities have Kubernetes' units; objects are a ResourceQuota and a Node."""
    assert [amount(text) for text in ("250m", "2", "1Ki", "1.5Gi", "1e3", "5k")] == [
        *(0.25, 2, 1024, 1.5 * (1 << 30), 1000, 5000)
    ]
    with pytest.raises(ValueError, match="not a quantity"):
        amount("many")
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "4"}}, "status": {"used": {"pods": "1"}}}
    assert quotas_of(quota) == [Quota("q", "pods", 4, 1)]
    node = {
        "metadata": {"name": "n"},
        "spec": {"taints": [{"effect": "NoSchedule"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"cpu": "3920m", "memory": "1Gi", "pods": "10", "ephemeral-storage": "1"},
            "nodeInfo": {"kernelVersion": "6.1", "containerRuntimeVersion": "containerd://2.0"},
        },
    }
    assert node_of(node) == Node(
        "n",
        takes_pods=False,
        room={"cpu": 3.92, "memory": 1 << 30, "pods": 10},
        kernel="6.1",
        runtime="containerd://2.0",
    )
