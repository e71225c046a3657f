"""Test of a single replica with a disk, as the chart deploys it."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.container import SERVICE_IMAGE
from tests.kubernetes.deployed import SETTINGS, opened, through
from tests.support.chart import Chart
from tests.support.cluster import Cluster, PodEngine
from tests.support.deployment import Deployment, Replica

pytestmark = pytest.mark.timeout(480)

SESSION_LEASE_SEC = 120
"""Longer than a busy machine takes to replace the service."""


@contextmanager
def volume(cluster: Cluster, folder: Path) -> Iterator[str]:
    """Offer a folder of this machine as a volume, and return the name of its storage class."""
    name = f"tests-{uuid.uuid4().hex[:12]}"
    folder.chmod(0o777)
    spec = {
        "capacity": {"storage": "10Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": str(folder)},
        "storageClassName": name,
        "persistentVolumeReclaimPolicy": "Retain",
    }
    cluster.call("POST", "/api/v1/persistentvolumes", {"metadata": {"name": name}, "spec": spec})
    try:
        yield name
    finally:
        cluster.call("DELETE", f"/api/v1/persistentvolumes/{name}")


@contextmanager
def only_replica(deployment: Deployment) -> Iterator[Replica]:
    """Wait for the only replica, and return it."""
    (only,) = deployment.replicas()
    try:
        yield only
    finally:
        only.api.close()


def test_a_single_replica_comes_back_to_its_sessions(pods: PodEngine, chart: Chart, tmp_path: Path) -> None:
    """After an update it finds registry and files on its volume, and kernels in the cluster.

    When the release is deleted without its hook, the leases end the kernels.
    """
    cluster = pods.cluster
    with (
        cluster.namespace() as namespace,
        cluster.namespace() as kernels,
        volume(cluster, tmp_path) as storage,
    ):
        deployment = Deployment(
            cluster,
            namespace,
            chart,
            SERVICE_IMAGE,
            persistence={"storageClassName": storage},
            kernels={"namespace": kernels},
            env=SETTINGS | {"LEASE_SEC": 20, "SESSION_LEASE_SEC": SESSION_LEASE_SEC},
            drainSeconds=0,
        )
        deployment.settle()
        with only_replica(deployment) as before:
            session = opened(before.api)
            session.run("x = 41")
            uploaded = before.api.http.post("/v1/files", files={"file": ("kept.txt", b"kept")})
            assert uploaded.status_code == 201, uploaded.text
        deployment.apply(podAnnotations={"restarted": "1"})
        deployment.settle()
        with only_replica(deployment) as after:
            assert after.name != before.name
            assert through(after.api, session).printed("print(x + 1)") == "42"
            assert after.api.http.get(f"/v1/files/{uploaded.json()['file_id']}").content == b"kept"
        deployment.delete()
        cluster.wait_until(lambda: not deployment.pods())
        cluster.wait_until(lambda: deployment.running_containers() == [], SESSION_LEASE_SEC + 60)
        ended = {"Succeeded", "Failed"}
        cluster.wait_until(lambda: {pod["status"]["phase"] for pod in deployment.kernels()} <= ended)
