"""The record of which containers exist."""

from collections.abc import Collection
from typing import Protocol

from sessions.kernels.connection import Connection


class ContainerLog(Protocol):
    """Records the containers of one instance of the service, so that a later run can take them over."""

    async def launched(self, connection: Connection) -> None:
        """Record a container that is ready."""

    async def removed(self, container_id: str) -> None:
        """Record that a container is gone."""

    async def rekeyed(self, connection: Connection) -> None:
        """Record the key of the new kernel in a container."""

    async def only(self, container_ids: Collection[str]) -> None:
        """Record that all containers of the instance except these are gone."""
