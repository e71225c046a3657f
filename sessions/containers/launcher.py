"""Containers launched and removed, and both written down; from which image, and with how much memory.

An image's first kernel is measured: a container's limit is what an idle kernel holds and the user's share.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import Final, Protocol

import aiohttp

from kernel_image import contract
from sessions.containers.engine import Engine
from sessions.containers.errors import EngineUnavailable, ImageNotFound
from sessions.containers.image_care import ImageCare, ImageStatus, Pull
from sessions.containers.observer import PoolObserver, Removal
from sessions.containers.sandbox import Sandbox
from sessions.kernels.connection import Connection
from sessions.models import ContainerSpec, Image, Limits

log = logging.getLogger(__name__)

_FIRST_BYTES: Final = 2 << 30
_IDLE_HEADROOM: Final = 1.1
_MIB: Final = 1 << 20
_REMOVE_SEC: Final = 30.0


class ContainerLog(Protocol):
    """Where it is written down which containers there are."""

    async def launched(self, connection: Connection) -> None:
        """A container is ready."""

    async def removed(self, container_id: str) -> None:
        """A container is gone."""

    async def rekeyed(self, connection: Connection) -> None:
        """Another kernel is in that container."""

    async def only(self, container_ids: Collection[str]) -> None:
        """These are all there are of the instance."""


Examine = Callable[[Sandbox, ContainerSpec], Awaitable[None]]


@dataclass(frozen=True)
class LaunchSettings:
    """What containers are launched from and may use. `limits.memory_bytes` is the user's share."""

    image: str
    image_pull: Pull
    version: str
    """The service's own, for the image to be held against."""
    instance_id: str
    preload: tuple[str, ...]
    limits: Limits
    runtime: str | None = None


class Launcher:
    """`open` it once, then `launch`; `look` again and again whether its name is another image's by now."""

    def __init__(
        self,
        engine: Engine,
        settings: LaunchSettings,
        containers: ContainerLog,
        examine: Examine | None,
        observer: PoolObserver,
    ) -> None:
        """`examine` looks at the first kernel of an image before any other is launched from that."""
        self._engine = engine
        self._settings = settings
        self._containers = containers
        self._examine = examine
        self._observer = observer
        self._image = ImageCare(engine, settings.image, settings.image_pull, settings.version)
        self._removing: set[str] = set()
        self._http: aiohttp.ClientSession
        self._spec: ContainerSpec

    # --- the image --------------------------------------------------------------------------------

    async def open(self, http: aiohttp.ClientSession) -> Sandbox:
        """Find the image, pulled if need be; its first kernel.

        Raises:
            SessionsError: there is no image, or none that will do.
            Exception: what `examine` has raised.
        """
        self._http = http
        await self._engine.prepare()
        image = await self._image.find()
        self._spec, first = await self._launch_first(image)
        return first

    async def prepare(self) -> None:
        """Make sure of what the engine needs besides the image: the network may be gone."""
        await self._engine.prepare()

    async def look(self) -> Image | None:
        """Another image that has the name by now, and may be changed to. Raises `EngineUnavailable`."""
        return await self._image.look()

    async def change_to(self, image: Image) -> Sandbox | None:
        """Launch from another image from now on; its first kernel, or None where that is not in order.

        Raises:
            EngineUnavailable: nobody can tell.
        """
        try:
            spec, first = await self._launch_first(image)
        except EngineUnavailable:
            raise
        except Exception as error:
            self._image.refuse(image, str(error))
            return None
        self._image.use(image)
        self._spec = spec
        log.info("kernels are launched from %s now", image.image_id)
        return first

    def is_current(self, sandbox: Sandbox) -> bool:
        """Whether its container is from the image in use."""
        return sandbox.image == self._spec.image

    def image_is_missing(self) -> ImageNotFound:
        """Note that the engine has said so; it as an error that has the image's name."""
        self._image.missing()
        return ImageNotFound(self._settings.image)

    @property
    def problem(self) -> str | None:
        """Why no container can be launched from the image now."""
        return self._image.problem

    def image(self) -> ImageStatus:
        """The image in use, and what is to be said of it."""
        return self._image.status()

    async def _launch_first(self, image: Image) -> tuple[ContainerSpec, Sandbox]:
        """Measure what an idle kernel of an image holds, so that the limit can be that and the user's share.

        Every tmpfs counts as well: a full disk has to be ENOSPC and not a dead container. The kernel has
        been examined; the others are to be launched by the spec.
        """
        settings, limits = self._settings, self._settings.limits
        roomy = replace(limits, memory_bytes=_FIRST_BYTES)
        spec = ContainerSpec(
            image.image_id, settings.instance_id, "", settings.preload, roomy, runtime=settings.runtime
        )
        first = await self._launch(spec, _whole)
        try:
            held = await first.memory_bytes()
            idle = int(held * _IDLE_HEADROOM)
            disks = contract.disk_bytes(limits.workspace_bytes, limits.tmp_bytes)
            total = idle + limits.memory_bytes + disks
            spec = replace(spec, limits=replace(limits, memory_bytes=total), idle_bytes=held)
            if not await self._engine.limit_memory(first.container_id, total):
                await self.remove_now(first, Removal.SURPLUS)
                first = await self._launch(spec, _whole)
            if self._examine is not None:
                await self._examine(first, spec)
        except BaseException:
            await self.remove_now(first, Removal.STOPPING)
            raise
        log.info(
            "an idle kernel holds %d MiB; a container may use %d MiB in all", idle // _MIB, total // _MIB
        )
        return spec, first

    # --- containers -------------------------------------------------------------------------------

    async def launch(self, hurried: Callable[[], bool]) -> Sandbox:
        """Another container with a kernel; where it is `hurried`, without what is preloaded.

        Raises:
            SessionsError: there is none.
        """
        return await self._launch(self._spec, hurried)

    async def _launch(self, spec: ContainerSpec, hurried: Callable[[], bool]) -> Sandbox:
        spec = replace(spec, token=secrets.token_hex(32))
        sandbox = await Sandbox.launch(self._engine, spec, self._http, hurried)
        try:
            await self._containers.launched(sandbox.connection)
        except BaseException:
            await sandbox.close()
            await asyncio.shield(self._engine.remove(sandbox.container_id))
            raise
        if (launch := sandbox.launched) is not None:
            self._observer.launched(launch.container_up - launch.began, launch.ended - launch.container_up)
        return sandbox

    def adopt(self, connection: Connection) -> Sandbox:
        """A container of an earlier life of a service; not connected."""
        return Sandbox(self._engine, connection, self._http)

    async def is_running(self, sandbox: Sandbox, instance_id: str) -> bool:
        """Whether the engine still has the container, which that instance has launched."""
        return sandbox.container_id in await self._engine.running(instance_id)

    async def running(self) -> set[str]:
        """Ids of the instance's own containers, but those being removed."""
        return await self._engine.running(self._settings.instance_id) - self._removing

    async def remove_all_but(self, kept: Collection[str], why: Removal) -> None:
        """Remove the instance's other containers."""
        found = await self._engine.running(self._settings.instance_id) - set(kept)
        await asyncio.gather(*(self._engine.remove(container_id) for container_id in found))
        for _ in found:
            self._observer.removed(why)
        await self._containers.only(kept)

    async def remove_now(self, sandbox: Sandbox, why: Removal) -> None:
        """Let go of a container and remove it."""
        await sandbox.close()
        await self.remove(sandbox.container_id, why)

    async def remove_after(self, delay_sec: float, sandbox: Sandbox, why: Removal) -> None:
        """As `remove_now`, a little later; until then nobody takes it for a leftover."""
        self._removing.add(sandbox.container_id)
        try:
            await asyncio.sleep(delay_sec)
        finally:
            await sandbox.close()
        await self.remove(sandbox.container_id, why)

    async def remove(self, container_id: str, why: Removal) -> None:
        """Remove a container; where that fails its lease will end it."""
        self._removing.add(container_id)
        try:
            async with asyncio.timeout(_REMOVE_SEC):
                await self._engine.remove(container_id)
            self._observer.removed(why)
            await self._containers.removed(container_id)
        except Exception as error:
            log.warning("removing a container failed, its lease will end it: %s", error)
        finally:
            self._removing.discard(container_id)


def _whole() -> bool:
    """With all that is preloaded, whoever waits."""
    return False
