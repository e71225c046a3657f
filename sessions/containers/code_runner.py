"""Running code in a container: cells of its kernel, messages of Jupyter clients, shell commands."""

import asyncio
import contextlib
import secrets
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Final

from sessions.kernels.assistance import Question
from sessions.kernels.cells.event_stream import CellEventStream
from sessions.kernels.channel import ChannelBroken
from sessions.kernels.client import KernelClient
from sessions.kernels.connection import Connection
from sessions.kernels.errors import SupervisorFailed
from sessions.kernels.supervisor_client import SupervisorClient
from sessions.models import Budget, Cell, CellEvent, Command, JsonObject, PackedMessage

CellEvents = AsyncGenerator[CellEvent]
"""Output as it arrives, and as the last event the `CellResult`."""

_CONNECT_SEC: Final = 10.0
_RECONNECT_SEC: Final = 1.0
_QUESTION_SEC: Final = 2.0
_WARM_UP: Final = Cell(
    "1", stdin=None, timeout_sec=10, last_line_interactive=True, final=False, counted=False
)
_WARM_UP_BUDGET: Final = Budget(cpu_sec=10, memory_bytes=1 << 30, output_bytes=1000, display_bytes=10_000)


class CodeRunner:
    """Runs code in one container. Its kernel can be replaced by another."""

    def __init__(self, supervisor: SupervisorClient, connection: Connection) -> None:
        self.connection = connection
        """How to reach the container; the key is that of its present kernel."""
        self.imported: frozenset[str] = frozenset()
        """Modules of `learnable.MODULES` that programs have imported, and the zygote had not."""
        self._supervisor = supervisor
        self._client: KernelClient | None = None

    # --- the kernel -------------------------------------------------------------------------------

    async def change_kernel(self, start: Callable[[str], Awaitable[None]], *, warm_up: bool) -> None:
        """Have a kernel started with a new key, and connect to it.

        Args:
            start: starts a kernel whose messages are signed with the given key, in place of any other.
            warm_up: whether to run a first cell, which takes longer than later ones.

        Raises:
            SupervisorFailed: the kernel did not start, or does not answer.
        """
        self.disconnect()
        key = secrets.token_hex(32)
        await start(key)
        self.connection = replace(self.connection, kernel_key=key)
        self.reconnect()
        await self.wait_until_ready()
        if warm_up:
            async with self.begin(_WARM_UP, _WARM_UP_BUDGET) as events:
                async for _ in events:
                    pass

    def reconnect(self) -> None:
        """Replace the channels to the kernel by new ones, which connect when they are needed."""
        self.disconnect()
        self._client = KernelClient(self.connection)

    def disconnect(self) -> None:
        """Close the channels to the kernel."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def wait_until_ready(self) -> None:
        """Return once the kernel answers. A kernel does not answer while it runs a cell.

        Raises:
            SupervisorFailed: the kernel has not answered in time.
        """
        await self._kernel.wait_until_ready(_CONNECT_SEC)

    async def has_kernel(self) -> bool:
        """Return whether a kernel runs. It may be too busy to answer."""
        return await self._supervisor.has_kernel()

    async def ask(self, question: Question) -> JsonObject:
        """Return the kernel's reply to a question, or an empty one if there is none in time.

        Called while no cell runs. Objects complete and describe themselves with user code. If that takes too
        long, it is interrupted.

        Raises:
            SupervisorFailed: the container is lost.
        """
        with contextlib.suppress(TimeoutError, ChannelBroken, SupervisorFailed):
            async with asyncio.timeout(_QUESTION_SEC):
                if not self._kernel.is_connected:
                    await self._kernel.wait_until_ready(_RECONNECT_SEC)
                # The answer takes CPU time of the kernel, which does not count as left behind.
                await self._supervisor.renew_idle_cpu()
                return await self._kernel.ask(question)
        # The kernel may never read the question. Closing the channels releases it; waiting opens them again.
        self._kernel.close()
        await self.interrupt()
        with contextlib.suppress(SupervisorFailed):
            await self._kernel.wait_until_ready(_RECONNECT_SEC)
        return {}

    async def discard_published(self) -> None:
        """Read the messages that the kernel publishes and drop them, until cancelled.

        Called between cells, so that the messages do not pile up.
        """
        if self._client is not None:
            await self._client.discard_published()

    @property
    def _kernel(self) -> KernelClient:
        if self._client is None:
            raise SupervisorFailed("the connection to its kernel is closed")
        return self._client

    # --- running code -----------------------------------------------------------------------------

    @asynccontextmanager
    async def begin(self, cell: Cell, budget: Budget) -> AsyncIterator[CellEvents]:
        """Begin a cell, and give its events.

        Raises:
            KernelEnded: on entry: there is no kernel, and no code has run.
            SupervisorFailed: on entry: the supervisor did not accept the cell, and no code has run.
        """
        await self._reconnect_if_broken()
        stream = CellEventStream.of_cell(self._supervisor, self._kernel, cell, budget)
        begun = self._supervisor.begin_cell(cell.cell_id, budget, note=cell.note)
        async with begun as frames, aclosing(stream.events(frames)) as events:
            yield events
        self.imported |= stream.imported

    @asynccontextmanager
    async def begin_message(
        self, message: PackedMessage, budget: Budget, timeout_sec: float
    ) -> AsyncIterator[CellEvents]:
        """Send a message that makes the kernel run code and has no reply.

        Returns the events, and raises the errors, of `begin`.
        """
        await self._reconnect_if_broken()
        async with self._supervisor.begin_cell(uuid.uuid4().hex, budget, is_message=True) as frames:
            stream = CellEventStream.of_message(self._supervisor, self._kernel, message, budget, timeout_sec)
            async with aclosing(stream.events(frames)) as events:
                yield events

    @asynccontextmanager
    async def begin_command(self, command: Command, budget: Budget) -> AsyncIterator[CellEvents]:
        """Begin a shell command, which needs no kernel. It has the events and errors of `begin`."""
        async with self._supervisor.begin_cell(command.cell_id, budget, command=command.command) as frames:
            stream = CellEventStream.of_command(self._supervisor, budget, command.timeout_sec)
            async with aclosing(stream.events(frames)) as events:
                yield events

    @asynccontextmanager
    async def attach(self, cell_id: str, budget: Budget, timeout_sec: float) -> AsyncIterator[CellEvents]:
        """Give all events of the last cell, which was begun before the service was restarted.

        Args:
            cell_id: the id of the cell.
            budget: the limits of the cell.
            timeout_sec: what is left of the cell's time.

        Raises:
            SupervisorFailed: on entry: the supervisor does not know the cell, or has begun another since.
        """
        async with self._supervisor.follow_cell(cell_id) as frames:
            stream = CellEventStream.of_attached_cell(self._supervisor, budget, timeout_sec)
            async with aclosing(stream.events(frames)) as events:
                yield events

    async def last_note(self) -> str | None:
        """Return the note of the last cell, also if the service has restarted since; None without a cell."""
        return await self._supervisor.last_note()

    async def answer(self, value: str) -> None:
        """Answer the `InputRequest` of the running code."""
        await self._supervisor.answer(value)

    async def interrupt(self, *, kill: bool = False) -> None:
        """Send SIGINT, or SIGKILL, to the running shell command, or without one to the kernel."""
        await self._supervisor.interrupt(kill=kill)

    async def kill_kernel(self) -> None:
        """Kill the kernel and every process that it started. A running cell ends."""
        await self._supervisor.kill_kernel()

    async def _reconnect_if_broken(self) -> None:
        if not self._kernel.is_connected:
            # User code may have closed the connection, and may never answer: the cell then times out.
            with contextlib.suppress(SupervisorFailed):
                await self._kernel.wait_until_ready(_RECONNECT_SEC)
