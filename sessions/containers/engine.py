"""The seam to whatever runs containers: Docker here, something else where it is wanted."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

from sessions.models import Container, ContainerSpec, Image, Surroundings

Lack = Literal["mount options", "inode limits", "process limits", "read-only names"]
"""A limit that an engine may be unable to set; `isolation_checks` names the substitute for each."""


class Engine(Protocol):
    """Verbs of a container engine. Each may raise `EngineUnavailable`."""

    lacks: frozenset[Lack]
    seals: bool
    """Whether its containers are spoken to in TLS, since the way to them is not the machine's own."""

    async def ping(self) -> None:
        """Ask whether the engine answers."""

    async def identity(self) -> str:
        """What tells this engine from others: services on the same one reach each other's containers."""

    async def prepare(self) -> None:
        """Make ready what launches need besides the image: the network."""

    async def image(self, name: str) -> Image | None:
        """The image of that name or id; None if there is none.

        Its id is immutable, or where an engine does not know its nodes' images, the name.
        """

    async def pull(self, name: str, tell: Callable[[Mapping[str, Any]], None]) -> None:
        """Fetch an image from the registry that its name says; `tell` takes the events, on another thread.

        Raises:
            ImageNotFound: with the reason.
        """

    async def launch(self, spec: ContainerSpec) -> Container:
        """Create and start a container.

        Raises:
            LaunchFailed: the engine refused; nothing is left behind.
            RuntimeNotFound: the engine has no such runtime.
        """

    async def remove(self, container_id: str) -> None:
        """Kill and remove a container; one that is gone already is fine."""

    async def limit_memory(self, container_id: str, memory_bytes: int) -> bool:
        """Change the memory limit of a running container; False: this engine can't, launch another."""

    def unthrottled(self, container_id: str) -> AbstractAsyncContextManager[None]:
        """While inside, the container may use all CPUs, so that its supervisor gets its turn.

        Where the engine can do that, that is.
        """

    async def surroundings(self, container_id: str) -> Surroundings:
        """Where a container that wants to get out would knock."""

    async def running(self, instance_id: str) -> set[str]:
        """Ids of the containers that belong to an instance."""

    async def close(self) -> None:
        """Give back connections; containers stay."""
