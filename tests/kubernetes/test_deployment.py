"""Tests of two replicas of the service in the cluster, as the chart deploys them."""

import subprocess
import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.kubernetes.deployed import LEASE_SEC, end, opened, soon, through
from tests.support.api import Api
from tests.support.cluster import Cluster
from tests.support.deployment import Deployment, Replica
from tests.support.session import Session

pytestmark = pytest.mark.timeout(300)


def test_service_runs_with_the_charts_role(deployment: Deployment, replicas: tuple[Replica, Replica]) -> None:
    """The service uses the account of its pod. The ReplicaSet that owns its pods owns the kernels too."""
    for replica in replicas:
        mode = (
            f"mode: Kubernetes; kernels are pods of namespace {deployment.namespace} at https://10.96.0.1:443"
        )
        assert mode in deployment.log(replica.name)
        assert replica.api.run("print(6 * 7)")["stdout"] == "42\n"
        assert replica.api.http.get("/ready").json()["instance_id"] == replica.name
    owners = {str(pod["metadata"]["ownerReferences"][0]["uid"]) for pod in deployment.pods()}
    kernels = deployment.kernels()
    assert kernels
    for kernel in kernels:
        (owner,) = kernel["metadata"]["ownerReferences"]
        assert owner["kind"] == "ReplicaSet" and {owner["uid"]} == owners
        assert kernel["spec"]["containers"][0]["image"] and "volumes" in kernel["spec"]
        assert kernel["spec"]["automountServiceAccountToken"] is False


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


def test_kernels_end_with_the_deployment(deployment: Deployment, replicas: tuple[Replica, Replica]) -> None:
    """No pod is left, neither those of the pool nor that of an open session."""
    session: Session = soon(lambda: opened(replicas[0].api))
    soon(lambda: session.run("x = 1"))
    deployment.delete()
    deployment.cluster.wait_until(lambda: not (deployment.pods() or deployment.kernels()))
    deployment.cluster.wait_until(lambda: deployment.running_containers() == [])
