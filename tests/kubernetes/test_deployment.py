"""Tests of two replicas of the service in the cluster, as the chart deploys them."""

import subprocess
import time
from collections.abc import Callable
from functools import partial

import pytest

from kernel_image import contract
from tests.kubernetes.deployed import LEASE_SEC, end, opened, soon, through
from tests.support.api import Api
from tests.support.chart import NAME
from tests.support.cluster import Cluster
from tests.support.deployment import Deployment, Replica
from tests.support.session import Session

pytestmark = pytest.mark.timeout(300)


def test_service_runs_with_the_charts_role(deployment: Deployment, replicas: tuple[Replica, Replica]) -> None:
    """The service uses the account of its pod. The kernels have a namespace of their own, and no owner."""
    for replica in replicas:
        place = f"namespace {deployment.kernels_namespace} at https://10.96.0.1:443"
        mode = f"mode: Kubernetes; kernels are pods of {place}"
        assert mode in deployment.log(replica.name)
        assert replica.api.run("print(6 * 7)")["stdout"] == "42\n"
        assert replica.api.http.get("/ready").json() == {"status": "ready"}
    kernels = deployment.kernels()
    assert kernels
    for kernel in kernels:
        assert kernel["metadata"]["labels"][contract.INSTANCE_LABEL] in {each.name for each in replicas}
        assert "ownerReferences" not in kernel["metadata"]
        assert kernel["spec"]["containers"][0]["image"] and "volumes" in kernel["spec"]
        assert kernel["spec"]["automountServiceAccountToken"] is False


def may(deployment: Deployment, verb: str, resource: str, namespace: str) -> bool:
    """Return whether the service's account has a right in a namespace."""
    review = {
        "spec": {
            "user": f"system:serviceaccount:{deployment.namespace}:{NAME}",
            "resourceAttributes": {"namespace": namespace, "verb": verb, "resource": resource},
        }
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(deployment.cluster.call("POST", path, review)["status"]["allowed"])


def test_account_can_create_pods_only_beside_kernels(deployment: Deployment) -> None:
    """In the namespace of the release, a pod could mount its secrets. Beside the kernels are none."""
    for verb in ("create", "delete", "list"):
        assert may(deployment, verb, "pods", deployment.kernels_namespace)
        assert not may(deployment, verb, "pods", deployment.namespace)
    for resource in ("secrets", "configmaps", "serviceaccounts", "pods/exec"):
        for namespace in (deployment.namespace, deployment.kernels_namespace):
            for verb in ("get", "list", "create"):
                assert not may(deployment, verb, resource, namespace)
    path = f"/api/v1/namespaces/{deployment.kernels_namespace}/secrets"
    types = {secret["type"] for secret in deployment.cluster.call("GET", path)["items"]}
    assert types <= {"kubernetes.io/service-account-token"}


def kill_container(cluster: Cluster, namespace: str, name: str) -> None:
    """Kill the service in a pod. The pod stays and gets another container."""
    pod = cluster.call("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
    container_id = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("docker://")
    subprocess.run(["docker", "kill", container_id], check=True, stdout=subprocess.DEVNULL)


def delete_pod(cluster: Cluster, namespace: str, name: str) -> None:
    """Delete a pod as `kubectl delete pod --grace-period=0 --force` does."""
    cluster.delete_pod(namespace, name)


@pytest.mark.parametrize("strike", [kill_container, delete_pod])
def test_sessions_survive_the_loss_of_their_replica(
    strike: Callable[[Cluster, str, str], None],
    deployment: Deployment,
    replicas: tuple[Replica, Replica],
    api: Api,
) -> None:
    """The other replica takes them over: variables are there, and a running cell is followed to its end."""
    dying, other = replicas
    busy, idle = (soon(lambda: opened(dying.api)) for _ in range(2))
    idle.run("kept = 'idle'")
    busy.run("x = 41")
    seconds = LEASE_SEC + 3
    cell_id = busy.detach(
        f"import time\nfor i in range({seconds}): print(i, flush=True); time.sleep(1)\nx += 1"
    )
    time.sleep(1)
    strike(deployment.cluster, deployment.namespace, dying.name)
    taken_over = through(other.api, busy)
    assert soon(lambda: taken_over.printed("print(x)")) == "42"
    cell = taken_over.finished(cell_id)
    assert (cell["state"], cell["result"]["stdout"].split()) == ("done", [str(i) for i in range(seconds)])
    assert soon(lambda: through(other.api, idle).printed("print(kept)")) == "idle"
    deployment.settle()
    for session in (busy, idle):
        assert soon(partial(through(api, session).printed, "print(1)")) == "1"
        end(api, session)


def test_kernels_end_with_the_release(deployment: Deployment, replicas: tuple[Replica, Replica]) -> None:
    """The hook removes the pods of the service, of the pool, of sessions, and one that never started."""
    session: Session = soon(lambda: opened(replicas[0].api))
    soon(lambda: session.run("x = 1"))
    spec = {"containers": [{"name": "kernel", "image": "no-such-image", "imagePullPolicy": "Never"}]}
    pending = {"metadata": {"name": "pending", "labels": {contract.ROLE_LABEL: contract.ROLE}}, "spec": spec}
    foreign = {"metadata": {"name": "foreign"}, "spec": spec}
    path = f"/api/v1/namespaces/{deployment.kernels_namespace}/pods"
    for pod in (pending, foreign):
        deployment.cluster.call("POST", path, pod)
    assert "the kernels' pods are gone" in deployment.run_hook()
    assert deployment.pods() == deployment.kernels() == []
    (left,) = deployment.cluster.pods(deployment.kernels_namespace)
    assert left["metadata"]["name"] == "foreign"
    deployment.cluster.wait_until(lambda: deployment.running_containers() == [])
