"""Removes containers, and records that they are gone."""

import asyncio
import logging
from collections.abc import Collection
from typing import Final

from sessions.containers.container_log import ContainerLog
from sessions.containers.engine import Engine
from sessions.containers.observer import PoolObserver, Removal
from sessions.containers.sandbox import Sandbox
from sessions.tasks import BackgroundTasks

log = logging.getLogger(__name__)

_REMOVE_SEC: Final = 30.0
_DISCARD_DELAY_SEC: Final = 0.05


class Remover:
    """Removes the containers of one instance of the service."""

    def __init__(
        self, engine: Engine, instance_id: str, containers: ContainerLog, observer: PoolObserver
    ) -> None:
        self._engine = engine
        self._instance_id = instance_id
        self._containers = containers
        self._observer = observer
        self._removing: set[str] = set()
        self._tasks = BackgroundTasks()
        self._is_closed = False

    async def running(self) -> set[str]:
        """Ids of the instance's running containers, without those that are being removed."""
        return await self._engine.running(self._instance_id) - self._removing

    async def remove_all_but(self, kept_ids: Collection[str], why: Removal) -> None:
        """Remove all of the instance's containers except those with these ids."""
        found = await self._engine.running(self._instance_id) - set(kept_ids)
        await asyncio.gather(*(self._engine.remove(container_id) for container_id in found))
        for _ in found:
            self._observer.removed(why)
        await self._containers.only(kept_ids)

    async def remove_now(self, sandbox: Sandbox, why: Removal) -> None:
        """Close a sandbox and remove its container."""
        await sandbox.close()
        await self.remove(sandbox.container_id, why)

    def discard(self, sandbox: Sandbox, why: Removal) -> None:
        """Remove a sandbox's container in the background. After `close`, only disconnect."""
        if self._is_closed:
            sandbox.runner.disconnect()
        else:
            self._tasks.start(self._discard(sandbox, why))

    async def _discard(self, sandbox: Sandbox, why: Removal) -> None:
        self._removing.add(sandbox.container_id)
        try:
            # The response of the call that used the container is sent first.
            await asyncio.sleep(_DISCARD_DELAY_SEC)
        finally:
            await sandbox.close()
        await self.remove(sandbox.container_id, why)

    async def remove(self, container_id: str, why: Removal) -> None:
        """Remove a container. If that fails, log it: the container ends when its lease runs out."""
        self._removing.add(container_id)
        try:
            async with asyncio.timeout(_REMOVE_SEC):
                await self._engine.remove(container_id)
            self._observer.removed(why)
            await self._containers.removed(container_id)
        except Exception as error:
            log.warning("removing a container failed, it will end with its lease: %s", error)
        finally:
            self._removing.discard(container_id)

    async def close(self) -> None:
        """Cancel the removals under way; `remove_all_but` removes these containers then."""
        self._is_closed = True
        await self._tasks.close()
