"""The service in the tests' cluster, as the chart deploys it, and clients for it."""

import random
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

import httpx

from kernel_image import contract
from tests.support.api import Api
from tests.support.chart import NAME, RELEASE, Chart, apply, delete, hook_of
from tests.support.cluster import Cluster, Object
from tests.support.engine import IMAGE

PORT: Final = 8000
_LABELS: Final = {"app.kubernetes.io/instance": RELEASE}
_STALE_SEC: Final = 0.5
"""Delay after which nodes have the current addresses of a service."""


@dataclass(frozen=True)
class Replica:
    """One of the service's pods, with a client that calls it directly."""

    name: str
    api: Api


class Deployment:
    """A release of the chart in a namespace of its own."""

    def __init__(self, cluster: Cluster, namespace: str, chart: Chart, image: str, **values: Any) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._chart = chart
        repository, _, tag = image.rpartition(":")
        self._values: Object = {
            "image": {"repository": repository, "tag": tag},
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
            **values,
            "kernels": {"image": IMAGE, **values.get("kernels", {})},
        }
        self.apply()

    def apply(self, **values: Any) -> None:
        """Change some values, and apply the chart as `helm upgrade` does."""
        self._values |= values
        apply(self.cluster, self._rendered(hook=None), self.namespace)

    def _rendered(self, hook: str | None) -> list[Object]:
        secrets = self._objects("api/v1", "secrets")
        existing = {secret["metadata"]["name"]: secret for secret in secrets}
        objects = self._chart.render(self._values, self.namespace, existing)
        return [found for found in objects if hook_of(found) == hook]

    def _objects(self, base: str, kind: str) -> list[Object]:
        found: list[Object] = self.cluster.call("GET", f"/{base}/namespaces/{self.namespace}/{kind}")["items"]
        return found

    @property
    def kernels_namespace(self) -> str:
        """Namespace of the kernels' pods."""
        named: str | None = self._values["kernels"].get("namespace")
        return named or f"{self.namespace}-{RELEASE}-kernels"

    # --- parts and state --------------------------------------------------------------------------

    def pods(self) -> list[Object]:
        """Return the service's pods, without those being deleted."""
        return self.cluster.pods(self.namespace, **_LABELS)

    def kernels(self) -> list[Object]:
        """Return the kernel pods of all replicas, without those being deleted."""
        return self.cluster.pods(self.kernels_namespace, **{contract.ROLE_LABEL: contract.ROLE})

    def running_containers(self) -> list[str]:
        """Return the ids of the pods' containers that the node's engine still runs."""
        namespaces = (self.namespace, self.kernels_namespace)
        return [container_id for namespace in namespaces for container_id in _running_in(namespace)]

    def addresses(self) -> list[str]:
        """Return the addresses that the service has now."""
        found = self.cluster.call("GET", f"/api/v1/namespaces/{self.namespace}/endpoints/{NAME}")
        return [each["ip"] for part in found.get("subsets") or () for each in part.get("addresses") or ()]

    def is_rolled_out(self) -> bool:
        """Return whether all pods are ready and use the newest template."""
        found = self.cluster.call("GET", f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{NAME}")
        status, wanted = found["status"], found["spec"]["replicas"]
        counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
        is_seen = status.get("observedGeneration") == found["metadata"]["generation"]
        return is_seen and counts == [wanted] * 3 and len(self.addresses()) == wanted

    def settle(self, seconds: float = 200) -> None:
        """Wait until the deployment is rolled out."""
        deadline = time.monotonic() + seconds
        while not self.is_rolled_out():
            assert time.monotonic() < deadline, f"not rolled out within {seconds} s:\n{self.logs()}"
            time.sleep(0.2)

    def replicas(self) -> list[Replica]:
        """Return the running replicas, each with a client of its own."""
        return [
            Replica(pod["metadata"]["name"], Api(f"http://{pod['status']['podIP']}:{PORT}"))
            for pod in self.pods()
        ]

    def logs(self, lines: int = 30) -> str:
        """Return the end of each replica's log."""
        names = [pod["metadata"]["name"] for pod in self.pods()]
        return "\n".join(f"{name}:\n{self.cluster.log(self.namespace, name, lines)}" for name in names)

    def log(self, name: str) -> str:
        """Return the whole log of a replica."""
        return self.cluster.log(self.namespace, name)

    def run_hook(self, seconds: float = 120) -> str:
        """Run the hook before the deletion, as `helm uninstall` does. Return the log of its job."""
        objects = self._rendered(hook="pre-delete")
        apply(self.cluster, objects, self.namespace)
        (job,) = (found["metadata"]["name"] for found in objects if found["kind"] == "Job")
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{job}"

        def has_succeeded() -> bool:
            return bool(self.cluster.call("GET", path)["status"].get("succeeded"))

        try:
            self.cluster.wait_until(has_succeeded, seconds)
            (pod,) = self.cluster.pods(self.namespace, **{"job-name": job})
            return self.cluster.log(self.namespace, pod["metadata"]["name"])
        finally:
            delete(self.cluster, objects, self.namespace)

    def delete(self) -> None:
        """Delete the objects of the release, as `helm uninstall --no-hooks` does."""
        delete(self.cluster, self._rendered(hook=None), self.namespace)


def _running_in(namespace: str) -> list[str]:
    only = (
        f"--filter=label=io.kubernetes.pod.namespace={namespace}",
        "--filter=label=io.kubernetes.docker.type=container",
    )
    listed = subprocess.run(["docker", "ps", "--quiet", *only], stdout=subprocess.PIPE, text=True, check=True)
    return listed.stdout.split()


class _Balancing(httpx.BaseTransport):
    """Opens a connection for each request, to a random address of the service."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._transport = httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))
        self._lock = threading.Lock()
        self._addresses: list[str] = []
        self._read_at = 0.0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            if time.monotonic() > self._read_at + _STALE_SEC:
                self._addresses = self._deployment.addresses()
                self._read_at = time.monotonic()
        request.url = request.url.copy_with(host=random.choice(self._addresses), port=PORT)
        return self._transport.handle_request(request)

    def close(self) -> None:
        self._transport.close()


def balanced(deployment: Deployment) -> Api:
    """Return a client that uses all addresses of the service. The tests' node has no kube-proxy."""
    api = Api("http://service")
    api.http.close()
    api.http = httpx.Client(transport=_Balancing(deployment), base_url="http://service", timeout=60)
    return api
