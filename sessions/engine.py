"""The seam to whatever runs containers: Docker here, something else where it is wanted."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sessions.models import Container, ContainerSpec, Surroundings


class Engine(Protocol):
    """Verbs of a container engine. Each may raise `EngineUnavailable`."""

    async def ping(self) -> None:
        """Ask whether the engine answers."""

    async def prepare(self, image: str) -> str:
        """Make ready what launches need: the image, the network. Returns the image's immutable id.

        Raises:
            ImageNotFound: neither there nor to be pulled.
        """

    async def launch(self, spec: ContainerSpec) -> Container:
        """Create and start a container.

        Raises:
            LaunchFailed: the engine refused; nothing is left behind.
            RuntimeNotFound: the engine has no such runtime.
        """

    async def remove(self, container_id: str) -> None:
        """Kill and remove a container; one that is gone already is fine."""

    async def limit_memory(self, container_id: str, memory_bytes: int) -> None:
        """Change the memory limit of a running container."""

    def unthrottled(self, container_id: str) -> AbstractAsyncContextManager[None]:
        """While inside, the container may use all CPUs, so that its supervisor gets its turn."""

    async def surroundings(self, container_id: str) -> Surroundings:
        """Where a container that wants to get out would knock."""

    async def running(self, instance_id: str) -> set[str]:
        """Ids of the containers that belong to an instance."""

    async def close(self) -> None:
        """Give back connections; containers stay."""
