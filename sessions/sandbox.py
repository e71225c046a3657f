"""A container with its supervisor and its kernel: made ready, given files, run, read, removed."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import aiohttp

from sessions.engine import Engine
from sessions.execution import Execution
from sessions.kernel import KernelClient, KernelContext
from sessions.models import Budget, Cell, CellEvent, Connection, ContainerSpec
from sessions.supervisor_client import SupervisorClient

_UP_SEC = 30.0
_KERNEL_SEC = 90.0
_CONNECT_SEC = 10.0
_WARM_UP = Cell("1", stdin=None, timeout_sec=10, last_line_interactive=True, final=False, counted=False)
_WARM_UP_BUDGET = Budget(cpu_sec=10, memory_bytes=1 << 30, output_bytes=1000, display_bytes=10_000)


class Sandbox:
    """One ready kernel in its container."""

    def __init__(self, connection: Connection, supervisor: SupervisorClient, kernel: KernelClient) -> None:
        self.connection = connection
        self._supervisor = supervisor
        self._kernel = kernel

    @property
    def container_id(self) -> str:
        return self.connection.container.container_id

    @classmethod
    async def launch(
        cls,
        engine: Engine,
        spec: ContainerSpec,
        http: aiohttp.ClientSession,
        context: KernelContext,
    ) -> "Sandbox":
        """Start a container and a kernel in it, and wait until the kernel answers.

        Raises:
            EngineUnavailable, LaunchFailed, SupervisorFailed: nothing is left behind.
        """
        container = await engine.launch(spec)
        connection = Connection(container, spec.token, kernel_key=secrets.token_hex(32))
        try:
            supervisor = SupervisorClient(http, container, spec.token)
            await supervisor.wait_until_up(_UP_SEC)
            await supervisor.start_kernel(connection.kernel_key, _KERNEL_SEC)
            kernel = KernelClient(context, connection)
            try:
                await kernel.wait_until_ready(_CONNECT_SEC)
                sandbox = cls(connection, supervisor, kernel)
                await sandbox._warm_up()
            except BaseException:
                kernel.close()
                raise
        except BaseException:
            await asyncio.shield(engine.remove(container.container_id))
            raise
        return sandbox

    async def memory_bytes(self) -> int:
        """What the container holds now, its files included."""
        return await self._supervisor.memory_bytes()

    async def renew_lease(self, seconds: float) -> None:
        """Let the container live on; fails if it is gone."""
        await self._supervisor.renew_lease(seconds)

    async def put_file(self, path: str, content: AsyncIterator[bytes]) -> None:
        """Stage an input; it comes back as an output only if the code changes it."""
        await self._supervisor.put_file(path, content)

    def open_file(self, path: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Read a file of the workspace in chunks."""
        return self._supervisor.open_file(path)

    @asynccontextmanager
    async def begin(self, cell: Cell, budget: Budget) -> AsyncIterator[AsyncGenerator[CellEvent]]:
        """Begin a cell; what it gives is to be iterated: output as it comes, and last its `CellResult`.

        Raises:
            SupervisorFailed: on entry, the container did not take it, and no code has run.
        """
        async with self._supervisor.begin_cell(budget) as frames:
            execution = Execution(self._supervisor, self._kernel, cell, budget)
            async with aclosing(execution.events(frames)) as events:
                yield events

    async def _warm_up(self) -> None:
        """Go the whole way once: the first time costs each part of it more than any other."""
        async with self.begin(_WARM_UP, _WARM_UP_BUDGET) as events:
            async for _ in events:
                pass

    def disconnect(self) -> None:
        """Close our ends; the container stays."""
        self._kernel.close()
