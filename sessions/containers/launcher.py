"""Launches containers: from which image, and with how much memory.

The first kernel of an image is measured. A container's memory limit is what an idle kernel uses, plus the
user's share, plus every tmpfs.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import aiohttp

from kernel_image import contract
from sessions.containers.container_log import ContainerLog
from sessions.containers.engine import Engine
from sessions.containers.engine_facts import Image
from sessions.containers.errors import EngineUnavailable, ImageNotFound
from sessions.containers.image_care import ImageCare, ImageStatus, Pull
from sessions.containers.observer import PoolObserver, Removal
from sessions.containers.remover import Remover
from sessions.containers.sandbox import Sandbox
from sessions.kernels.connection import Connection
from sessions.models import ContainerSpec, Limits

log = logging.getLogger(__name__)

_FIRST_BYTES: Final = 2 << 30
"""Memory limit of an image's first container, until it is measured."""
_IDLE_HEADROOM: Final = 1.1
_MIB: Final = 1 << 20

Examine = Callable[[Sandbox, ContainerSpec], Awaitable[None]]
"""Checks the first sandbox of an image. An exception means that the image must not be used."""


@dataclass(frozen=True)
class LaunchSettings:
    """Image and limits of the containers. `limits.memory_bytes` is the user's share."""

    image: str
    image_pull: Pull
    version: str
    """The service's own version, which the image's is compared with."""
    instance_id: str
    preload: tuple[str, ...]
    """Modules that the zygote imports."""
    learn_bytes: int
    """Memory that modules may take in an idle kernel because programs use them; 0: none are added."""
    limits: Limits
    runtime: str | None = None


class Launcher:
    """Call `open` once, then `launch`. Call `find_new_image` from time to time."""

    def __init__(
        self,
        engine: Engine,
        settings: LaunchSettings,
        containers: ContainerLog,
        remover: Remover,
        examine: Examine | None,
        observer: PoolObserver,
    ) -> None:
        """`examine` checks the first sandbox of an image before any other is launched from it."""
        self._engine = engine
        self._settings = settings
        self._containers = containers
        self._remover = remover
        self._examine = examine
        self._observer = observer
        self._image = ImageCare(engine, settings.image, settings.image_pull, settings.version)
        self._http: aiohttp.ClientSession
        self._spec: ContainerSpec
        self._most_idle_bytes: int
        """Memory that an idle kernel may take with all modules that `preload_more` adds."""

    # --- the image --------------------------------------------------------------------------------

    async def open(self, http: aiohttp.ClientSession) -> Sandbox:
        """Find the image, pull it if needed, and return its first sandbox.

        Raises:
            SessionsError: there is no image that can be used, or the engine does not answer.
            Exception: whatever `examine` raised.
        """
        self._http = http
        await self._engine.prepare()
        image = await self._image.find()
        spec, first = await self._launch_first(image.image_id)
        self._use(spec)
        return first

    async def prepare(self) -> None:
        """Create what launches need besides the image: the network may have been removed."""
        await self._engine.prepare()

    async def find_new_image(self) -> Image | None:
        """Return another image that has the name now and may be used; None if there is none.

        Raises:
            EngineUnavailable: the engine does not answer.
        """
        return await self._image.check()

    async def change_to(self, image: Image) -> Sandbox | None:
        """Launch from another image from now on.

        Returns:
            Its first sandbox, or None if the image must not be used.

        Raises:
            EngineUnavailable: the engine does not answer, so that nothing is known of the image.
        """
        try:
            spec, first = await self._launch_first(image.image_id)
        except EngineUnavailable:
            raise
        except Exception as error:
            self._image.refuse(image, str(error))
            return None
        self._image.use(image)
        self._use(spec)
        log.info("kernels are launched from %s now", image.image_id)
        return first

    async def preload_more(self, names: Iterable[str]) -> Sandbox | None:
        """Have further zygotes import these modules too.

        Returns:
            The first sandbox with them, or None if they take more memory than they may.

        Raises:
            SessionsError: the launch failed; nothing has changed.
        """
        spec, first = await self._launch_measured(self._spec.image, (*self._spec.preload, *names))
        if spec.idle_bytes > self._most_idle_bytes:
            await self._remover.remove_now(first, Removal.SURPLUS)
            return None
        if spec.image != self._spec.image:  # the image has changed meanwhile
            await self._remover.remove_now(first, Removal.OUTDATED)
            return None
        self._spec = spec
        return first

    @property
    def learns(self) -> bool:
        """Whether zygotes may import more than at the start."""
        return self._settings.learn_bytes > 0

    @property
    def preload(self) -> tuple[str, ...]:
        """The modules that zygotes import now."""
        return self._spec.preload

    def is_current(self, sandbox: Sandbox) -> bool:
        """Whether the sandbox was launched from the image in use."""
        return sandbox.image == self._spec.image

    def is_complete(self, sandbox: Sandbox) -> bool:
        """Whether the sandbox's zygote has imported all modules that zygotes import now."""
        return sandbox.preloaded == self._spec.preload

    def image_is_missing(self) -> ImageNotFound:
        """Record that the engine reports the image as missing, and return the error with its name."""
        self._image.missing()
        return ImageNotFound(self._settings.image)

    @property
    def problem(self) -> str | None:
        """Why no container can be launched from the image now; None if one can."""
        return self._image.problem

    def image(self) -> ImageStatus:
        """Return the image in use, with warnings about it."""
        return self._image.status()

    def _use(self, spec: ContainerSpec) -> None:
        """Launch by this description of an image's containers. What was added to `preload` is forgotten."""
        self._spec = spec
        self._most_idle_bytes = spec.idle_bytes + self._settings.learn_bytes

    async def _launch_first(self, image_id: str) -> tuple[ContainerSpec, Sandbox]:
        """Launch and examine an image's first sandbox; return it, and the spec for all further ones."""
        spec, first = await self._launch_measured(image_id, self._settings.preload)
        try:
            failed = await first.failed_preloads()
            for name in filter(failed.__contains__, self._settings.preload):
                log.warning("KERNEL_PRELOAD: %s cannot be imported in the image", name)
            if self._examine is not None:
                await self._examine(first, spec)
        except BaseException:
            await self._remover.remove_now(first, Removal.STOPPING)
            raise
        return spec, first

    async def _launch_measured(
        self, image_id: str, preload: tuple[str, ...]
    ) -> tuple[ContainerSpec, Sandbox]:
        """Launch a sandbox, measure its idle kernel, and return the sandbox and the spec for further ones.

        The limit counts every tmpfs too, so that a full disk is ENOSPC instead of a dead container.
        """
        settings, limits = self._settings, self._settings.limits
        roomy = replace(limits, memory_bytes=_FIRST_BYTES)
        spec = ContainerSpec(image_id, settings.instance_id, "", preload, roomy, runtime=settings.runtime)
        first = await self._launch(spec, _never)
        try:
            held = await first.memory_bytes()
            idle = int(held * _IDLE_HEADROOM)
            disks = contract.disk_bytes(limits.workspace_bytes, limits.tmp_bytes)
            total = idle + limits.memory_bytes + disks
            spec = replace(spec, limits=replace(limits, memory_bytes=total), idle_bytes=held)
            if not await self._engine.limit_memory(first.container_id, total):
                await self._remover.remove_now(first, Removal.SURPLUS)
                first = await self._launch(spec, _never)
        except BaseException:
            await self._remover.remove_now(first, Removal.STOPPING)
            raise
        log.info("an idle kernel uses %d MiB; a container may use %d MiB in all", idle // _MIB, total // _MIB)
        return spec, first

    # --- containers -------------------------------------------------------------------------------

    async def launch(self, is_hurried: Callable[[], bool]) -> Sandbox:
        """Launch another sandbox. If `is_hurried()` is true by then, its kernel starts without preloading.

        Raises:
            SessionsError: the launch failed; nothing is left behind.
        """
        return await self._launch(self._spec, is_hurried)

    async def _launch(self, spec: ContainerSpec, is_hurried: Callable[[], bool]) -> Sandbox:
        spec = replace(spec, token=secrets.token_hex(32))
        sandbox = await Sandbox.launch(self._engine, spec, self._http, is_hurried)
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
        """Return the sandbox of a container that another run of a service launched; not connected."""
        return Sandbox(self._engine, connection, self._http)

    async def is_running(self, sandbox: Sandbox, instance_id: str) -> bool:
        """Whether the engine still runs the container, which the instance of that id launched."""
        return sandbox.container_id in await self._engine.running(instance_id)


def _never() -> bool:
    return False
