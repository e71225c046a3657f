"""The Docker engine without the service: plain `docker run`, and facts about containers."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import docker

from kernel_image import contract


class Engine:
    """An engine and an image."""

    def __init__(self, image: str) -> None:
        self.image = image
        self._docker = docker.from_env()

    def close(self) -> None:
        """Close the connections."""
        self._docker.close()

    def describe(self) -> str:
        """Return the engine's version, storage driver and cgroup version."""
        facts = self._docker.info()
        return (
            f"Docker {facts['ServerVersion']} ({facts['Driver']}, cgroup v{facts.get('CgroupVersion', '1')})"
        )

    def run(self, code: str) -> float:
        """Run code with the command line `docker run`, and return the seconds that it took."""
        command = ["docker", "run", "--rm", "--network", "none", self.image, "python", "-c", code]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    def create_exec_remove(self) -> None:
        """Run `1+1` in a new container, as a service without a pool does."""
        with self.standing_container() as execute:
            execute()

    @contextmanager
    def standing_container(self) -> Iterator[Callable[[], None]]:
        """Start a container, and yield a function that runs `1+1` in it with `docker exec`."""
        api = self._docker.api
        host = api.create_host_config(network_mode="none")
        command = ["sleep", "infinity"]
        created = api.create_container(self.image, entrypoint=command, host_config=host)["Id"]

        def execute() -> None:
            api.exec_start(api.exec_create(created, ["python", "-c", "print(1+1)"])["Id"])

        try:
            api.start(created)
            yield execute
        finally:
            api.remove_container(created, force=True)

    def held_bytes(self, instance_id: str) -> int:
        """Return the memory of an instance's containers that cannot be reclaimed: processes and tmpfs."""
        label = f"{contract.INSTANCE_LABEL}={instance_id}"
        held = 0
        for container in self._docker.api.containers(filters={"label": label}):
            stats = self._docker.api.stats(container["Id"], stream=False, one_shot=True)
            memory = stats["memory_stats"]["stats"]
            held += memory.get("rss", memory.get("anon", 0)) + memory.get("shmem", 0)
        return held

    def cpu_seconds(self, container_id: str) -> float:
        """Return the CPU time of a container's processes since its start, in seconds."""
        stats = self._docker.api.stats(container_id, stream=False, one_shot=True)
        return int(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9
