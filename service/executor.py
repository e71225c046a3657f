"""The one use case: lease a kernel, stage the inputs, run the code, store what came of it, record it."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from service.errors import FileNotFound, InputNotFound, ServiceError, TimeoutTooLong
from service.keyring import Caller
from service.limits import Executions
from service.records import ExecutionRecord
from service.run import Run, State, Stores
from service.schemas import ExecuteRequest, InputFile
from service.settings import MIB
from sessions.errors import SupervisorFailed, WorkspaceFull
from sessions.models import Budget, Cell, CellEvent, CellResult
from sessions.paths import check_paths
from sessions.pool import Pool
from sessions.sandbox import Sandbox

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 3
"""Containers tried until one takes the inputs: no code has run by then, so nothing is done twice."""


@dataclass(frozen=True)
class Input:
    """A stored file and where the code will find it."""

    path: str
    file_id: str


class Executor:
    """Runs code; see `begin`."""

    def __init__(self, stores: Stores, pool: Pool) -> None:
        self.stores = stores
        self._pool = pool
        self._writing: set[asyncio.Task[None]] = set()
        settings = stores.settings
        self.running = Executions(settings.key_limits.executions)
        self.budget = Budget(
            cpu_sec=settings.cpu_time_limit_sec,
            memory_bytes=settings.memory_limit_mb * MIB,
            output_bytes=settings.max_output_bytes,
            display_bytes=settings.max_display_bytes,
        )

    async def begin(self, request: ExecuteRequest, caller: Caller) -> Run:
        """Do all that can be refused: afterwards the code runs, whatever comes of it.

        Raises:
            TimeoutTooLong, InvalidPath, InputNotFound, WorkspaceFull: the request is at fault.
            TooManyExecutions, NoCapacity, SupervisorFailed, EngineUnavailable: it may work later.
        """
        cell = self.cell_of(request, final=True)
        inputs = await self.check_inputs(request.files, caller.owner)
        async with AsyncExitStack() as held:
            held.enter_context(self.running.one_of(caller.owner))
            sandbox, events = await self._begin_in_a_sandbox(cell, inputs, caller, held)
            return Run(
                self.stores,
                sandbox,
                events,
                held.pop_all(),
                partial(self._conclude, sandbox),
                files_in=len(inputs),
                owner=caller.owner,
            )
        raise AssertionError("unreachable")

    async def _begin_in_a_sandbox(
        self, cell: Cell, inputs: list[Input], caller: Caller, held: AsyncExitStack
    ) -> tuple[Sandbox, AsyncGenerator[CellEvent]]:
        """Lease a sandbox, which is given back when `held` is closed, and begin the cell in it."""
        for attempt in range(1, _ATTEMPTS + 1):
            async with AsyncExitStack() as stack:
                sandbox = await stack.enter_async_context(self._pool.lease(caller.tenant))
                try:
                    await self.stage(sandbox, inputs, caller.owner)
                    events = await stack.enter_async_context(sandbox.begin(cell, self.budget))
                except SupervisorFailed:
                    if attempt == _ATTEMPTS:
                        raise
                    await self._pool.drop_dead()
                else:
                    held.push_async_exit(stack.pop_all())
                    return sandbox, events
        raise AssertionError("unreachable")

    async def _conclude(
        self, sandbox: Sandbox, result: CellResult, record: ExecutionRecord
    ) -> tuple[State, str]:
        """Have the row written while the caller reads the answer."""
        sandbox.ended_well = result.kernel_alive and not result.timed_out
        writing = asyncio.create_task(self._write(record))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        return "lost", "a call without a session has a kernel of its own, which is gone now"

    async def _write(self, record: ExecutionRecord) -> None:
        try:
            await self.stores.registry.add_execution(record)
        except ServiceError as error:
            log.error("execution %s is not in the registry: %s", record.execution_id, error)

    async def close(self) -> None:
        """Return once every row is written."""
        await asyncio.gather(*self._writing)

    def cell_of(self, request: ExecuteRequest, *, final: bool, allow_stdin: bool = False) -> Cell:
        """The cell a request asks for. Raises `TimeoutTooLong`."""
        if request.timeout_ms > self.stores.settings.max_exec_timeout_ms:
            raise TimeoutTooLong(self.stores.settings.max_exec_timeout_ms)
        return Cell(
            code=request.code,
            stdin=request.stdin,
            timeout_sec=request.timeout_ms / 1000,
            last_line_interactive=request.last_line_interactive,
            final=final,
            allow_stdin=allow_stdin and request.stdin is None,
        )

    async def check_inputs(self, files: list[InputFile], owner: str) -> list[Input]:
        """The inputs, the owner's files, under their plain paths. Raises `InvalidPath` or `InputNotFound`."""
        paths = check_paths(file.path for file in files)
        inputs = [Input(path, file.file_id) for path, file in zip(paths, files, strict=True)]
        for given in inputs:
            try:
                await self.stores.files.get(given.file_id, owner)
            except FileNotFound as error:
                raise InputNotFound(given.file_id, given.path) from error
        return inputs

    async def stage(self, sandbox: Sandbox, inputs: list[Input], owner: str) -> None:
        """Put the inputs into the workspace. Raises `WorkspaceFull`, `InputNotFound`, `SupervisorFailed`."""
        for given in inputs:
            try:
                file = await self.stores.files.open(given.file_id, owner)
            except FileNotFound as error:
                raise InputNotFound(given.file_id, given.path) from error
            try:
                with file:
                    await sandbox.put_file(given.path, file.chunks())
            except SupervisorFailed as error:
                if error.status == 507:
                    raise WorkspaceFull from error
                raise
