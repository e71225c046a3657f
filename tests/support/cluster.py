"""The tests' Kubernetes, seen from outside by its API and its processes."""

import http.client
import json
import os
import signal
import ssl
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from kernel_image import contract
from tests.support.engine import Engine, EngineMissing

_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
FOLDER: Final = Path(os.environ.get("KUBERNETES_DIR") or _CACHE / "code-interpreter/kubernetes") / "run"
"""Folder in which `scripts/setup-kubernetes` keeps the files of the running cluster."""
FIRST: Final = "node1"
"""The cluster's first node, which uses the machine's Docker engine."""
_WAIT_SEC: Final = 60.0

Object = dict[str, Any]


class Cluster:
    """The cluster of one node that `scripts/setup-kubernetes` starts."""

    def __init__(self) -> None:
        """Raises `EngineMissing`."""
        try:
            config = json.loads((FOLDER / "kubeconfig").read_text())
            self.url: str = config["clusters"][0]["cluster"]["server"]
            self._http = httpx.Client(
                base_url=self.url,
                headers={"Authorization": f"Bearer {config['users'][0]['user']['token']}"},
                verify=False,
                timeout=10,
            )
            self._http.get("/readyz").raise_for_status()
        except (OSError, httpx.HTTPError) as error:
            raise EngineMissing(
                f"there is no Kubernetes for the tests ({error}): `make test-kubernetes` starts one"
            ) from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- objects ----------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Object | None = None, **query: str) -> Object:
        """Send a request to the API server that must succeed, and return the response."""
        response = self._http.request(method, path, json=body, params=query)
        assert response.is_success, response.text
        found: Object = response.json()
        return found

    def patch(self, path: str, change: Object) -> None:
        """Merge a change into an object."""
        headers = {"Content-Type": "application/merge-patch+json"}
        self._http.patch(path, content=json.dumps(change), headers=headers).raise_for_status()

    @contextmanager
    def namespace(self) -> Iterator[str]:
        """Make a namespace for the block."""
        name = f"tests-{uuid.uuid4().hex[:12]}"
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        try:
            # The API server accepts no pod before the service account exists.
            self.wait_until(lambda: self._has(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
            yield name
        finally:
            self.call("DELETE", f"/api/v1/namespaces/{name}")

    def _has(self, path: str) -> bool:
        return self._http.get(path).is_success

    def wait_until(self, happened: Any, seconds: float = _WAIT_SEC) -> None:
        """Wait until `happened()` is true."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"not within {seconds} s: {happened}"
            time.sleep(0.1)

    def pods(self, namespace: str, **labels: str) -> list[Object]:
        """Return the namespace's pods with those labels, without those being deleted."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        found = self.call("GET", f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)
        return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]

    def delete_pod(self, namespace: str, name: str) -> None:
        """Delete a pod that may exist, as `kubectl delete pod --grace-period=0` does."""
        options = {"gracePeriodSeconds": 0}
        self._http.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", json=options)

    def cordon(self, node: str, *, cordoned: bool = True) -> None:
        """Forbid new pods on a node, or allow them, as `kubectl cordon` and `uncordon` do."""
        self.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": cordoned}})

    def forget_node(self, name: str) -> None:
        """Remove a node that may exist, as `kubectl delete node` does."""
        self._http.request("DELETE", f"/api/v1/nodes/{name}")

    def log(self, namespace: str, name: str, lines: int = 10_000) -> str:
        """Return the end of the logs of a pod's containers, also of earlier starts, oldest first."""
        labels = {"namespace": namespace, "name": name}
        filters = [f"--filter=label=io.kubernetes.pod.{key}={value}" for key, value in labels.items()]
        only = "--filter=label=io.kubernetes.docker.type=container"
        listing = ["docker", "ps", "--all", "--quiet", *filters, only]
        listed = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
        logs = [["docker", "logs", f"--tail={lines}", container_id] for container_id in reversed(listed)]
        return "".join(
            subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            ).stdout
            for command in logs
        )

    # --- processes --------------------------------------------------------------------------------

    def pid(self, part: str) -> int:
        """Return the process id of `kubelet`, `kube-apiserver` and so on."""
        return int((FOLDER / f"{part}.pid").read_text())

    @contextmanager
    def without(self, part: str) -> Iterator[None]:
        """Kill that part of the cluster, and start it again after the block."""
        os.kill(self.pid(part), signal.SIGKILL)
        try:
            yield
        finally:
            self._start(part)

    def _start(self, part: str) -> None:
        command = (FOLDER / f"{part}.command").read_text().split("\0")[:-1]
        script = 'log=$1; shift; setsid "$@" >>"$log" 2>&1 </dev/null & echo $!'
        started = subprocess.run(
            ["sh", "-c", script, "sh", FOLDER / f"{part}.log", *command],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        (FOLDER / f"{part}.pid").write_text(started.stdout)
        self.wait_until(self.answers)

    def answers(self) -> bool:
        """Return whether the API server answers."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.TransportError:
            return False


class PodEngine(Engine):
    """The engine of services whose kernels are pods. The node uses the Docker engine's images."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster()
        self._namespaces = self.cluster.namespace()
        self.namespace = self._namespaces.__enter__()

    @property
    def settings(self) -> dict[str, str]:
        return {
            "EXECUTOR_BACKEND": "kubernetes",
            "KUBECONFIG": str(FOLDER / "kubeconfig"),
            "KUBERNETES_NAMESPACE": self.namespace,
        }

    def close(self) -> None:
        self._namespaces.__exit__(None, None, None)
        self.cluster.close()
        super().close()

    def kernels(self, instance_id: str) -> set[str]:
        return {pod["metadata"]["name"] for pod in self.pods(instance_id)}

    owned = kernels

    def pods(self, instance_id: str) -> list[Object]:
        """Return the instance's pods in which a process may still run, as the API server shows them."""
        found = self.cluster.pods(self.namespace, **{contract.INSTANCE_LABEL: instance_id})
        return [pod for pod in found if pod["status"]["phase"] in ("Pending", "Running")]

    def inspect(self, container_id: str) -> dict[str, Any]:
        pod = self.cluster.call("GET", f"/api/v1/namespaces/{self.namespace}/pods/{container_id}")
        return self._inspect(pod)

    def _inspect(self, pod: Object) -> dict[str, Any]:
        """Return what Docker reports of the pod's container, by the pod's name, and of its network."""
        (container,) = pod["status"]["containerStatuses"]
        found = super().inspect(container["containerID"].removeprefix("docker://"))
        # A separate container of the node holds the pod's network.
        holder = super().inspect(found["HostConfig"]["NetworkMode"].removeprefix("container:"))
        return found | {"Id": pod["metadata"]["name"], "NetworkSettings": holder["NetworkSettings"]}

    def inspected(self, instance_id: str) -> list[dict[str, Any]]:
        running = [pod for pod in self.pods(instance_id) if pod["status"]["phase"] == "Running"]
        return [found for pod in running if (found := self._inspect(pod))["State"]["Running"]]

    def reached_at(self, container_id: str) -> dict[int, tuple[str, int]]:
        return {port: (self.network(container_id)[2], port) for port in contract.PORTS}

    def supervisor(self, container_id: str) -> http.client.HTTPConnection:
        anyones = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anyones.check_hostname, anyones.verify_mode = False, ssl.CERT_NONE
        host, port = self.reached_at(container_id)[contract.SUPERVISOR_PORT]
        return http.client.HTTPSConnection(host, port, timeout=5, context=anyones)

    def networks(self, instance_id: str) -> set[str]:
        return set()

    def remove(self, container_id: str) -> None:
        """Delete the pod and wait until its processes end, a second after the API has removed it."""
        found = self.cluster.pods(self.namespace)
        names = {pod["metadata"]["name"]: pod["status"].get("containerStatuses", ()) for pod in found}
        self.cluster.delete_pod(self.namespace, container_id)
        for container in names.get(container_id, ()):
            docker_id = container.get("containerID", "").removeprefix("docker://")
            self.cluster.wait_until(lambda wanted=docker_id: not self._runs(wanted))

    def _runs(self, docker_id: str) -> bool:
        listed = self._docker.api.containers(quiet=True, filters={"status": "running"})
        return docker_id in {container["Id"] for container in listed}
