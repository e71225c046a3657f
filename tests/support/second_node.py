"""A second node for the tests' cluster: an engine and a kubelet of its own, on the same machine."""

import subprocess
from pathlib import Path
from typing import Final

from tests.faults.second_engine import SecondEngine, unmount_below
from tests.support.cluster import FOLDER, Cluster

NAME: Final = "node2"
_PAUSE: Final = "code-interpreter-pause:tests"
_ADDRESSES: Final = "172.17.200.0/24"
"""Addresses of the node's pods. The first engine uses the same bridge, and assigns lower addresses."""
_READY_SEC: Final = 90.0


class SecondNode:
    """The second node. The constructor starts it with the kernel image, and waits until it has joined."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        (folder / "engine").mkdir()
        self.engine = SecondEngine(folder / "engine")
        self._kubelet: subprocess.Popen[bytes] | None = None
        self.engine.start("--fixed-cidr", _ADDRESSES)
        try:
            self.engine.load(_PAUSE)
            self._kubelet = self._start_kubelet()
            cluster.wait_until(self.is_ready, _READY_SEC)
        except BaseException:
            self.close()
            raise

    def _start_kubelet(self) -> subprocess.Popen[bytes]:
        own = {
            "--hostname-override": NAME,
            "--root-dir": str(self._folder / "kubelet"),
            "--docker-endpoint": self.engine.url,
            "--container-runtime-endpoint": f"unix://{self._folder / 'dockershim.sock'}",
            "--port": "10270",
            "--healthz-port": "10271",
            "--read-only-port": "0",
            "--cert-dir": str(self._folder / "certificates"),
        }
        first = (FOLDER / "kubelet.command").read_text().split("\0")[:-1]
        with (self._folder / "kubelet.log").open("wb") as log:
            return subprocess.Popen(
                [*first, *(word for pair in own.items() for word in pair)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        """Return whether the cluster starts pods on this node."""
        assert self._kubelet is not None and self._kubelet.poll() is None, self._log()
        nodes = self._cluster.call("GET", "/api/v1/nodes")["items"]
        conditions = [
            c for node in nodes if node["metadata"]["name"] == NAME for c in node["status"]["conditions"]
        ]
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

    def _log(self) -> str:
        """Return the end of the kubelet's errors, without stack traces."""
        lines = (self._folder / "kubelet.log").read_text().splitlines()
        return "\n".join(line for line in lines if line.startswith(("E", "F")))[-3000:]

    def die(self) -> None:
        """Kill kubelet, engine and all containers, as a power cut does."""
        ids = self.engine.docker("ps", "--quiet", "--no-trunc").stdout.split()
        self._kill_kubelet()
        self.engine.kill()
        for container_id in ids:
            for pid in _processes_of(container_id):
                subprocess.run(["kill", "-KILL", str(pid)], check=False, capture_output=True)

    def _kill_kubelet(self) -> None:
        if self._kubelet is not None:
            self._kubelet.kill()
            self._kubelet.wait()

    def close(self) -> None:
        """Remove the node from the cluster, and everything that it left on this machine."""
        self._kill_kubelet()
        self._cluster.forget_node(NAME)
        self.engine.close()
        unmount_below(self._folder)


def _processes_of(container_id: str) -> list[int]:
    """Return the ids of a container's processes, by its cgroup. The engine need not answer."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if container_id in file.read_text():
                found.append(int(file.parent.name))
        except OSError:
            continue
    return found
