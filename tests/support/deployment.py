"""The service in the tests' cluster, as the chart deploys it, and callers of it."""

import random
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

import httpx

from kernel_image import contract
from tests.support.api import Api
from tests.support.chart import NAME, RELEASE, Chart, apply
from tests.support.cluster import Cluster, Object
from tests.support.engine import IMAGE

PORT: Final = 8000
_LABELS: Final = {"app.kubernetes.io/instance": RELEASE}
_STALE_SEC: Final = 0.5
"""Nodes learn of a service's addresses as late as this."""


@dataclass(frozen=True)
class Replica:
    """One of the service's pods, asked directly."""

    name: str
    api: Api


class Deployment:
    """One release of the chart, alone in a namespace."""

    def __init__(self, cluster: Cluster, namespace: str, chart: Chart, image: str, **values: Any) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._chart = chart
        repository, _, tag = image.rpartition(":")
        self._values: Object = {
            "image": {"repository": repository, "tag": tag},
            "kernels": {"image": IMAGE},
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
            **values,
        }
        self.apply()

    def apply(self, **values: Any) -> None:
        """What `helm upgrade` does, with some values changed."""
        self._values |= values
        secrets = self._objects("api/v1", "secrets")
        there = {secret["metadata"]["name"]: secret for secret in secrets}
        apply(self.cluster, self._chart.render(self._values, self.namespace, there), self.namespace)

    def _objects(self, base: str, kind: str) -> list[Object]:
        found: list[Object] = self.cluster.call("GET", f"/{base}/namespaces/{self.namespace}/{kind}")["items"]
        return found

    # --- what there is ----------------------------------------------------------------------------

    def pods(self) -> list[Object]:
        """The service's, but for those on their way out."""
        return self.cluster.pods(self.namespace, **_LABELS)

    def kernels(self) -> list[Object]:
        """Of all replicas, but for those on their way out."""
        return self.cluster.pods(self.namespace, **{contract.ROLE_LABEL: contract.ROLE})

    def running_containers(self) -> list[str]:
        """Ids of its pods' containers that the node still runs, whatever the API says of them."""
        only = (
            f"--filter=label=io.kubernetes.pod.namespace={self.namespace}",
            "--filter=label=io.kubernetes.docker.type=container",
        )
        listed = subprocess.run(
            ["docker", "ps", "--quiet", *only], stdout=subprocess.PIPE, text=True, check=True
        )
        return listed.stdout.split()

    def addresses(self) -> list[str]:
        """Where calls to the service may go to just now."""
        found = self.cluster.call("GET", f"/api/v1/namespaces/{self.namespace}/endpoints/{NAME}")
        return [one["ip"] for part in found.get("subsets") or () for one in part.get("addresses") or ()]

    def is_rolled_out(self) -> bool:
        """Whether all pods there are, are ready and of the newest template."""
        found = self.cluster.call("GET", f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{NAME}")
        status, wanted = found["status"], found["spec"]["replicas"]
        counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
        is_seen = status.get("observedGeneration") == found["metadata"]["generation"]
        return is_seen and counts == [wanted] * 3 and len(self.addresses()) == wanted

    def settle(self, seconds: float = 200) -> None:
        """Wait until it is as it is wanted."""
        deadline = time.monotonic() + seconds
        while not self.is_rolled_out():
            assert time.monotonic() < deadline, f"not within {seconds} s:\n{self.logs()}"
            time.sleep(0.2)

    def replicas(self) -> list[Replica]:
        """Those that run, each with clients of its own."""
        return [
            Replica(pod["metadata"]["name"], Api(f"http://{pod['status']['podIP']}:{PORT}"))
            for pod in self.pods()
        ]

    def logs(self, lines: int = 30) -> str:
        """The end of each replica's log."""
        names = [pod["metadata"]["name"] for pod in self.pods()]
        return "\n".join(f"{name}:\n{self.cluster.log(self.namespace, name, lines)}" for name in names)

    def log(self, name: str) -> str:
        """All that one replica has logged."""
        return self.cluster.log(self.namespace, name)

    def delete(self) -> None:
        """Delete the deployment, as `helm uninstall` does."""
        place = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{NAME}"
        self.cluster.call("DELETE", place, {"propagationPolicy": "Background"})


class _Balancing(httpx.BaseTransport):
    """A new connection for each call, to any address that the service has."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._way = httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))
        self._lock = threading.Lock()
        self._addresses: list[str] = []
        self._known_at = 0.0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            if time.monotonic() > self._known_at + _STALE_SEC:
                self._addresses = self._deployment.addresses()
                self._known_at = time.monotonic()
        request.url = request.url.copy_with(host=random.choice(self._addresses), port=PORT)
        return self._way.handle_request(request)

    def close(self) -> None:
        self._way.close()


def balanced(deployment: Deployment) -> Api:
    """The service, by all of its addresses: nobody plays kube-proxy on the tests' node."""
    api = Api("http://service")
    api.http.close()
    api.http = httpx.Client(transport=_Balancing(deployment), base_url="http://service", timeout=60)
    return api
