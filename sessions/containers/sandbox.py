"""A container with its supervisor and its kernel, as the pool hands it out."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import aiohttp

from sessions.containers.code_runner import CodeRunner
from sessions.containers.engine import Engine
from sessions.kernels.certificate_pin import CertificatePin
from sessions.kernels.connection import Connection
from sessions.kernels.supervisor_client import SupervisorClient
from sessions.models import ContainerSpec, WorkspaceEntry

_UP_SEC: Final = 30.0
"""Time limit for the supervisor's first answer."""
_KERNEL_SEC: Final = 90.0
"""Time limit for starting a kernel, or for a scrub."""


@dataclass(frozen=True)
class Launch:
    """When a container and its first kernel were started, in seconds of `time.monotonic()`."""

    began: float
    container_up: float
    ended: float


class Sandbox:
    """A container, with what the pool has to know about it.

    Attributes:
        runner: runs code in the container.
        image: id of the container's image; empty if the container was launched before the service restarted.
        tenant: the tenant whose code has run in the container; None if no code has.
        ended_well: whether the last execution gave no reason to destroy the container.
        uses: how often the container was scrubbed.
        preloaded: modules that the zygote imported at the start.
        launched: times of the launch; None if the container was launched before the service restarted.
    """

    def __init__(
        self, engine: Engine, connection: Connection, http: aiohttp.ClientSession, image: str = ""
    ) -> None:
        """Take over a running container; connect to nothing yet."""
        if engine.uses_tls:
            pin = CertificatePin(connection.container, connection.token)
            connection = replace(connection, certificate_pin=pin)
        unthrottled = partial(engine.unthrottled, connection.container.container_id)
        self._supervisor = SupervisorClient(
            http, connection.container, connection.token, unthrottled, connection.certificate_pin
        )
        self.runner = CodeRunner(self._supervisor, connection)
        self.image = image
        self.tenant: str | None = None
        self.ended_well = False
        self.uses = 0
        self.preloaded: tuple[str, ...] = ()
        self.launched: Launch | None = None
        self._made_at = self._idle_since = time.monotonic()

    @property
    def connection(self) -> Connection:
        """How to reach the container and its present kernel."""
        return self.runner.connection

    @property
    def container_id(self) -> str:
        return self.connection.container.container_id

    @property
    def age_sec(self) -> float:
        """Seconds since this object was made."""
        return time.monotonic() - self._made_at

    @property
    def idle_sec(self) -> float:
        """Seconds since the launch or the last scrub."""
        return time.monotonic() - self._idle_since

    def serves(self, tenant: str) -> bool:
        """Return whether the container may serve this tenant: it has run no code of another one."""
        return self.tenant in (None, tenant)

    @classmethod
    async def launch(
        cls,
        engine: Engine,
        spec: ContainerSpec,
        http: aiohttp.ClientSession,
        hurried: Callable[[], bool] = lambda: False,
    ) -> "Sandbox":
        """Start a container and a kernel in it, and wait until the kernel answers.

        Args:
            engine: starts the container.
            spec: describes the container.
            http: makes the connections to the supervisor.
            hurried: called when the container runs. If it returns true, the kernel starts without preloading,
                in a third of the CPU time.

        Raises:
            EngineUnavailable, LaunchFailed, SupervisorFailed: the container is removed again.
        """
        began = time.monotonic()
        container = await engine.launch(spec)
        container_up = time.monotonic()
        sandbox = cls(engine, Connection(container, spec.token, kernel_key=""), http, spec.image)
        try:
            await sandbox._supervisor.wait_until_up(_UP_SEC)
            is_hurried = bool(spec.preload) and hurried()
            sandbox.preloaded = () if is_hurried else spec.preload
            await sandbox._start_kernel(sandbox.preloaded, spec.idle_bytes, warm_up=not is_hurried)
        except BaseException:
            await sandbox.close()
            await asyncio.shield(engine.remove(container.container_id))
            raise
        sandbox.launched = Launch(began, container_up, time.monotonic())
        return sandbox

    async def start_kernel(self) -> None:
        """Start a kernel with a new key, in place of any other. The files stay.

        Raises:
            SupervisorFailed: the kernel did not start.
        """
        await self._start_kernel()

    async def _start_kernel(
        self, preload: tuple[str, ...] = (), idle_bytes: int = 0, *, warm_up: bool = True
    ) -> None:
        start = partial(
            self._supervisor.start_kernel, timeout_sec=_KERNEL_SEC, preload=preload, idle_bytes=idle_bytes
        )
        await self.runner.change_kernel(start, warm_up=warm_up)

    async def scrub(self) -> None:
        """Make the container as it was before any user code ran, with a new kernel.

        Raises:
            NotClean: the container could not be proved clean, and has to be destroyed.
            SupervisorFailed: the scrub failed, and the container has to be destroyed.
        """
        self.ended_well = False
        start = partial(self._supervisor.scrub, timeout_sec=_KERNEL_SEC)
        await self.runner.change_kernel(start, warm_up=False)
        self.uses += 1
        self._idle_since = time.monotonic()

    async def failed_preloads(self) -> frozenset[str]:
        """Return the modules that were to be preloaded and could not be imported."""
        return await self._supervisor.failed_preloads()

    async def memory_bytes(self) -> int:
        """Return how much memory the container's processes and files take now."""
        return await self._supervisor.memory_bytes()

    async def renew_lease(self, seconds: float) -> None:
        """Keep the container for this time. Raises `SupervisorFailed` if the container is lost."""
        await self._supervisor.renew_lease(seconds)

    async def close(self) -> None:
        """Close all connections to the container. The container itself stays."""
        self.runner.disconnect()
        await self._supervisor.close()

    # --- files ------------------------------------------------------------------------------------

    async def put_file(self, path: str, content: AsyncIterator[bytes]) -> None:
        """Write a file. It is an output of a cell only if the code changes it.

        Raises:
            WorkspaceFull: the file does not fit.
            InvalidPath, WorkspaceFileNotFound: there can be no such file.
        """
        await self._supervisor.put_file(path, content)

    def open_file(self, path: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give the content of a file in chunks. Raises `WorkspaceFileNotFound` or `InvalidPath` on entry."""
        return self._supervisor.open_file(path)

    async def list_files(self) -> list[WorkspaceEntry]:
        """Return all regular files in the workspace."""
        return await self._supervisor.list_files()

    async def delete_file(self, path: str) -> None:
        """Delete a file. Raises `WorkspaceFileNotFound` or `InvalidPath`."""
        await self._supervisor.delete_file(path)

    async def rename_file(self, path: str, to: str) -> None:
        """Move a file to a path that is free.

        Raises:
            WorkspaceFileNotFound: there is no file at `path`.
            InvalidPath, WorkspaceFull: the file cannot be moved.
        """
        await self._supervisor.rename_file(path, to)
