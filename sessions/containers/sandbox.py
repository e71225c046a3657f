"""A container with its supervisor and its kernel: made ready, given files, run, read, removed."""

import asyncio
import contextlib
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import aiohttp

from sessions.containers.engine import Engine
from sessions.kernels.assistance import Question
from sessions.kernels.cells.event_stream import CellEventStream
from sessions.kernels.certificate_pin import CertificatePin
from sessions.kernels.channel import ChannelBroken
from sessions.kernels.client import KernelClient
from sessions.kernels.connection import Connection
from sessions.kernels.errors import SupervisorFailed
from sessions.kernels.supervisor_client import SupervisorClient
from sessions.models import (
    Budget,
    Cell,
    CellEvent,
    Command,
    ContainerSpec,
    JsonObject,
    KernelMessage,
    WorkspaceEntry,
)

CellEvents = AsyncGenerator[CellEvent]

_UP_SEC = 30.0
_KERNEL_SEC = 90.0
_CONNECT_SEC = 10.0
_AGAIN_SEC = 1.0
_ASK_SEC = 2.0
_WARM_UP = Cell("1", stdin=None, timeout_sec=10, last_line_interactive=True, final=False, counted=False)
_WARM_UP_BUDGET = Budget(cpu_sec=10, memory_bytes=1 << 30, output_bytes=1000, display_bytes=10_000)


@dataclass(frozen=True)
class Launch:
    """When a container and its first kernel were started: `time.monotonic()` seconds."""

    began: float
    container_up: float
    ended: float


class Sandbox:
    """One ready kernel in its container."""

    def __init__(
        self, engine: Engine, connection: Connection, http: aiohttp.ClientSession, image: str = ""
    ) -> None:
        if engine.seals:
            pin = CertificatePin(connection.container, connection.token)
            connection = replace(connection, certificate_pin=pin)
        self.connection = connection
        self.image = image
        """Id of the image it was launched from; empty where an earlier life of the service did that."""
        self.tenant: str | None = None
        """Whom it has served, and may serve again; None: nobody yet."""
        self.ended_well = False
        """Whether its last execution gave no reason to destroy it."""
        self.uses = 0
        """How often it has been made as new."""
        self.is_complete = True
        """Whether its kernel has all preloaded that it was to have."""
        self.launched: Launch | None = None
        """None: it was, by an earlier life of the service."""
        self._made_at = self._idle_since = time.monotonic()
        unthrottled = partial(engine.unthrottled, connection.container.container_id)
        self._supervisor = SupervisorClient(
            http, connection.container, connection.token, unthrottled, connection.certificate_pin
        )
        self._kernel: KernelClient | None = None

    @property
    def container_id(self) -> str:
        return self.connection.container.container_id

    @property
    def age_sec(self) -> float:
        return time.monotonic() - self._made_at

    @property
    def idle_sec(self) -> float:
        """How long it has been as new."""
        return time.monotonic() - self._idle_since

    def serves(self, tenant: str) -> bool:
        """Whether it may: it has never run anybody else's code."""
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

        If `hurried()` is true when the container is there, the kernel starts without preloading, in a
        third of the CPU time.

        Raises:
            EngineUnavailable, LaunchFailed, SupervisorFailed: nothing is left behind.
        """
        began = time.monotonic()
        container = await engine.launch(spec)
        container_up = time.monotonic()
        sandbox = cls(engine, Connection(container, spec.token, kernel_key=""), http, spec.image)
        try:
            await sandbox._supervisor.wait_until_up(_UP_SEC)
            sandbox.is_complete = not (spec.preload and hurried())
            preload = spec.preload if sandbox.is_complete else ()
            start = partial(sandbox._supervisor.start_kernel, preload=preload, idle_bytes=spec.idle_bytes)
            await sandbox._connect_to(start, warm=sandbox.is_complete)
        except BaseException:
            await sandbox.close()
            await asyncio.shield(engine.remove(container.container_id))
            raise
        sandbox.launched = Launch(began, container_up, time.monotonic())
        return sandbox

    async def start_kernel(self) -> None:
        """Start a kernel with a key of its own, in place of any other; files stay.

        Raises:
            SupervisorFailed: it did not come up.
        """
        await self._connect_to(self._supervisor.start_kernel)

    async def scrub(self) -> None:
        """Make the container as it was before any user code ran, with a new kernel.

        Raises:
            SupervisorFailed: it is not, and has to be destroyed.
        """
        self.ended_well = False
        await self._connect_to(self._supervisor.scrub, warm=False)
        self.uses += 1
        self._idle_since = time.monotonic()

    async def _connect_to(self, start: Callable[[str, float], Awaitable[None]], *, warm: bool = True) -> None:
        """Have a kernel started with a new key, and open channels to it."""
        self.disconnect()
        key = secrets.token_hex(32)
        await start(key, _KERNEL_SEC)
        self.connection = replace(self.connection, kernel_key=key)
        self.reconnect()
        await self.wait_until_ready()
        if warm:
            await self._warm_up()

    def reconnect(self) -> None:
        """Open the channels to the kernel anew."""
        self.disconnect()
        self._kernel = KernelClient(self.connection)

    async def wait_until_ready(self) -> None:
        """Return once the kernel answers; it does not while it runs a cell."""
        await self._channels.wait_until_ready(_CONNECT_SEC)

    @property
    def _channels(self) -> KernelClient:
        if self._kernel is None:
            raise SupervisorFailed("its kernel has been let go of")
        return self._kernel

    async def memory_bytes(self) -> int:
        """What the container holds now, its files included."""
        return await self._supervisor.memory_bytes()

    async def renew_lease(self, seconds: float) -> None:
        """Let the container live on; fails if it is gone."""
        await self._supervisor.renew_lease(seconds)

    async def interrupt(self, *, kill: bool = False) -> None:
        """Send SIGINT, or SIGKILL, to what runs: the shell command if there is one."""
        await self._supervisor.interrupt(kill=kill)

    async def kill_kernel(self) -> None:
        """Kill the kernel and what it started; a running cell ends by that."""
        await self._supervisor.kill_kernel()

    async def answer(self, value: str) -> None:
        """Answer the running code's `InputRequest`."""
        await self._supervisor.answer(value)

    async def last_note(self) -> str | None:
        """The note of the cell that was begun last, also by an earlier object; None without any."""
        return await self._supervisor.last_note()

    # --- files ------------------------------------------------------------------------------------

    async def put_file(self, path: str, content: AsyncIterator[bytes]) -> None:
        """Write a file. It comes back as an output only if the code changes it."""
        await self._supervisor.put_file(path, content)

    def open_file(self, path: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Read a file of the workspace in chunks."""
        return self._supervisor.open_file(path)

    async def list_files(self) -> list[WorkspaceEntry]:
        """All regular files in the workspace, by path."""
        return await self._supervisor.list_files()

    async def delete_file(self, path: str) -> None:
        """Delete a file."""
        await self._supervisor.delete_file(path)

    async def rename_file(self, path: str, to: str) -> None:
        """Move a file to a path that is free."""
        await self._supervisor.rename_file(path, to)

    # --- cells ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def begin(self, cell: Cell, budget: Budget) -> AsyncIterator[CellEvents]:
        """Begin a cell; what it gives is to be iterated: output as it comes, and last its `CellResult`.

        Raises:
            SupervisorFailed: on entry, the container did not take it, and no code has run.
        """
        await self._listen_again()
        execution = CellEventStream.of_cell(self._supervisor, self._channels, cell, budget)
        begun = self._supervisor.begin_cell(cell.cell_id, budget, note=cell.note)
        async with begun as frames, aclosing(execution.events(frames)) as events:
            yield events

    async def ask(self, question: Question) -> JsonObject:
        """What the kernel replies to a question, while no cell runs; nothing if it does not in time.

        Objects complete and describe themselves by code of the user's, which is interrupted then.

        Raises:
            SupervisorFailed: the container is lost.
        """
        with contextlib.suppress(TimeoutError, ChannelBroken, SupervisorFailed):
            async with asyncio.timeout(_ASK_SEC):
                if not self._channels.is_connected:
                    await self._channels.wait_until_ready(_AGAIN_SEC)
                return await self._channels.ask(question)
        await self.interrupt()
        with contextlib.suppress(SupervisorFailed):
            await self._channels.wait_until_ready(_AGAIN_SEC)
        return {}

    async def discard_published(self) -> None:
        """Let nothing that the kernel publishes pile up, until cancelled. For while nothing runs."""
        if self._kernel is not None:
            await self._kernel.discard_published()

    async def _listen_again(self) -> None:
        if not self._channels.is_connected:
            # The code may have hung up, and may never answer again: the cell's time limit says so.
            with contextlib.suppress(SupervisorFailed):
                await self._channels.wait_until_ready(_AGAIN_SEC)

    @asynccontextmanager
    async def begin_message(
        self, message: KernelMessage, budget: Budget, timeout_sec: float
    ) -> AsyncIterator[CellEvents]:
        """As `begin`, for a message that makes the kernel run code and has no reply."""
        await self._listen_again()
        async with self._supervisor.begin_cell(uuid.uuid4().hex, budget, is_message=True) as frames:
            execution = CellEventStream.of_message(
                self._supervisor, self._channels, message, budget, timeout_sec
            )
            async with aclosing(execution.events(frames)) as events:
                yield events

    async def has_kernel(self) -> bool:
        """Whether there is one; it need not answer."""
        return await self._supervisor.has_kernel()

    @asynccontextmanager
    async def begin_command(self, command: Command, budget: Budget) -> AsyncIterator[CellEvents]:
        """As `begin`, for a shell command."""
        async with self._supervisor.begin_cell(command.cell_id, budget, command=command.command) as frames:
            execution = CellEventStream.of_command(
                self._supervisor, self._channels.mark_finder(), budget, command.timeout_sec
            )
            async with aclosing(execution.events(frames)) as events:
                yield events

    @asynccontextmanager
    async def attach(self, cell_id: str, budget: Budget, timeout_sec: float) -> AsyncIterator[CellEvents]:
        """As `begin`, for a cell that was begun before this object was: all of its output again.

        Raises:
            SupervisorFailed: on entry, if another cell has been begun since.
        """
        async with self._supervisor.follow_cell(cell_id) as frames:
            execution = CellEventStream.of_attached_cell(
                self._supervisor, self._channels.mark_finder(), budget, timeout_sec
            )
            async with aclosing(execution.events(frames)) as events:
                yield events

    async def _warm_up(self) -> None:
        """Go the whole way once: the first time costs each part of it more than any other."""
        async with self.begin(_WARM_UP, _WARM_UP_BUDGET) as events:
            async for _ in events:
                pass

    async def close(self) -> None:
        """Let go of the container, which stays."""
        self.disconnect()
        await self._supervisor.close()

    def disconnect(self) -> None:
        """Close the channels to the kernel."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None
