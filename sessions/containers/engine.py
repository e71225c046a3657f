"""The seam to what runs containers: Docker, or Kubernetes."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

from sessions.containers.engine_facts import Image, Surroundings
from sessions.models import Container, ContainerSpec

Feature = Literal["mount options", "inode limits", "process limits", "read-only names"]
"""A restriction that some engine cannot set; `isolation_checks` names the substitute for each."""


class Engine(Protocol):
    """A container engine. Every method may raise `EngineUnavailable`."""

    unsupported_features: frozenset[Feature]
    uses_tls: bool
    """Whether connections to the containers use TLS: the way to them may leave this machine."""

    async def ping(self) -> None:
        """Return if the engine answers."""

    async def identity(self) -> str:
        """Return an id of the engine. Services with the same engine can reach each other's containers."""

    async def prepare(self) -> None:
        """Create what launches need besides the image: the network. Called before the first launch, and
        again after a launch failed.
        """

    async def image(self, name: str) -> Image | None:
        """Return the image of that name or id; None if there is none.

        Its id is immutable. An engine that does not know the images of its nodes returns the name as id.
        """

    async def pull(self, name: str, on_event: Callable[[Mapping[str, Any]], None]) -> None:
        """Pull an image from the registry in its name.

        `on_event` is called with the engine's events, on another thread.

        Raises:
            ImageNotFound: pulling failed; the error has the reason.
        """

    async def launch(self, spec: ContainerSpec) -> Container:
        """Create and start a container. If the caller is cancelled, no container is left behind.

        Raises:
            LaunchFailed: the engine refused; nothing is left behind.
            ImageNotFound: the engine does not have the image.
            RuntimeNotFound: the engine has no such OCI runtime.
        """

    async def remove(self, container_id: str) -> None:
        """Kill and remove a container. Do nothing if it is gone already."""

    async def limit_memory(self, container_id: str, memory_bytes: int) -> bool:
        """Change the memory limit of a running container; False if this engine cannot."""

    def unthrottled(self, container_id: str) -> AbstractAsyncContextManager[None]:
        """Lift the container's CPU limit for the length of the block, so that its supervisor gets the CPU.

        An engine that cannot do that does nothing.
        """

    async def surroundings(self, container_id: str) -> Surroundings:
        """Return the addresses that the self-test tries to reach from inside the container."""

    async def running(self, instance_id: str) -> set[str]:
        """Return the ids of the containers that belong to an instance of the service."""

    async def close(self) -> None:
        """Close the connections to the engine. Containers stay."""
