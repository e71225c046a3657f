"""The one use case: lease a kernel, stage the inputs, run the code, store what came of it, record it."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from service.auth.keyring import Caller
from service.auth.limits import ConcurrencyLimit
from service.routes.schemas.execute import ExecuteRequest, InputFile
from service.telemetry.execution_log import ExecutionRecorder
from sessions import clock
from sessions.containers.pool.pool import Pool
from sessions.containers.sandbox import Sandbox
from sessions.errors import (
    FileNotFound,
    InputNotFound,
    InvalidPath,
    TimeoutTooLong,
    WorkspaceFileNotFound,
)
from sessions.executions.execution import Execution, State, Stores
from sessions.kernels.errors import SupervisorFailed
from sessions.models import Budget, Cell, CellEvent, CellResult
from sessions.paths import check_paths
from sessions.records import ExecutionRecord

_ATTEMPTS: Final = 3
"""Containers tried until one takes the inputs: no code has run by then, so nothing is done twice."""


@dataclass(frozen=True)
class Input:
    """A stored file and where the code will find it."""

    path: str
    file_id: str
    size_bytes: int


class OneShotExecutor:
    """Runs code; see `begin`."""

    def __init__(self, stores: Stores, pool: Pool) -> None:
        self.stores = stores
        self._pool = pool
        self.executions = stores.executions
        settings = stores.settings
        self.running = ConcurrencyLimit(settings.keys.limits.executions)
        self.budget = Budget(
            cpu_sec=settings.execution.cpu_time_limit_sec,
            memory_bytes=settings.execution.memory_limit_bytes,
            output_bytes=settings.execution.max_output_bytes,
            display_bytes=settings.execution.max_display_bytes,
        )

    async def begin(self, request: ExecuteRequest, caller: Caller) -> Execution:
        """Do all that can be refused: afterwards the code runs, whatever comes of it.

        Raises:
            TimeoutTooLong, InvalidPath, InputNotFound, WorkspaceFull: the request is at fault.
            TooManyExecutions, NoCapacity, SupervisorFailed, EngineUnavailable: it may work later.
        """
        async with AsyncExitStack() as held:
            with self.executions.begin("execute", caller.owner, request.code) as entry:
                cell = self.cell_of(request, entry, final=True)
                inputs = await self.check_inputs(request.files, entry)
                held.enter_context(self.running.one_of(caller.owner))
                sandbox, events = await self._begin_in_a_sandbox(cell, inputs, caller, entry, held)
            conclude = partial(self._conclude, sandbox)
            return Execution(self.stores, sandbox, events, held.pop_all(), conclude, entry)
        raise AssertionError("unreachable")

    async def _begin_in_a_sandbox(
        self, cell: Cell, inputs: list[Input], caller: Caller, entry: ExecutionRecorder, held: AsyncExitStack
    ) -> tuple[Sandbox, AsyncGenerator[CellEvent]]:
        """Lease a sandbox, which is given back when `held` is closed, and begin the cell in it."""
        for attempt in range(1, _ATTEMPTS + 1):
            async with AsyncExitStack() as stack:
                waiting_since = clock.now()
                sandbox = await stack.enter_async_context(self._pool.lease(caller.tenant))
                entry.timeline.waited(waiting_since, sandbox.launched)
                try:
                    await self.stage(sandbox, inputs, entry)
                    entry.began()
                    events = await stack.enter_async_context(sandbox.runner.begin(cell, self.budget))
                except SupervisorFailed:
                    entry.run_began = None
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
        self.executions.write_soon(record)
        return "lost", "a call without a session has a kernel of its own, which is gone now"

    def cell_of(
        self, request: ExecuteRequest, entry: ExecutionRecorder, *, final: bool, allow_stdin: bool = False
    ) -> Cell:
        """The cell a request asks for, which has the id of its execution. Raises `TimeoutTooLong`."""
        if request.timeout_ms > self.stores.settings.execution.max_exec_timeout_ms:
            raise TimeoutTooLong(self.stores.settings.execution.max_exec_timeout_ms)
        return Cell(
            code=request.code,
            stdin=request.stdin,
            timeout_sec=request.timeout_ms / 1000,
            last_line_interactive=request.last_line_interactive,
            final=final,
            allow_stdin=allow_stdin and request.stdin is None,
            cell_id=entry.execution_id,
        )

    async def check_inputs(self, files: list[InputFile], entry: ExecutionRecorder) -> list[Input]:
        """As `find_inputs`, of an execution."""
        inputs = await self.find_inputs(files, entry.owner)
        entry.files_in, entry.files_in_bytes = len(inputs), sum(given.size_bytes for given in inputs)
        return inputs

    async def find_inputs(self, files: list[InputFile], owner: str) -> list[Input]:
        """The inputs, the owner's files, under their plain paths. Raises `InvalidPath` or `InputNotFound`."""
        inputs = []
        for path, file in zip(check_paths(file.path for file in files), files, strict=True):
            try:
                stored = await self.stores.files.get(file.file_id, owner)
            except FileNotFound as error:
                raise InputNotFound(file.file_id, path) from error
            inputs.append(Input(path, file.file_id, stored.size_bytes))
        return inputs

    async def stage(self, sandbox: Sandbox, inputs: list[Input], entry: ExecutionRecorder) -> None:
        """As `put_inputs`, as a stage of an execution."""
        if inputs:
            with entry.timeline.during("stage"):
                await self.put_inputs(sandbox, inputs, entry.owner)

    async def put_inputs(self, sandbox: Sandbox, inputs: list[Input], owner: str) -> None:
        """Put the inputs into the workspace.

        Raises:
            InvalidPath, WorkspaceFull, InputNotFound: the request is at fault.
            SupervisorFailed: the container is.
        """
        for given in inputs:
            try:
                file = await self.stores.files.open(given.file_id, owner)
            except FileNotFound as error:
                raise InputNotFound(given.file_id, given.path) from error
            try:
                with file:
                    await sandbox.put_file(given.path, file.chunks())
            except (InvalidPath, WorkspaceFileNotFound) as error:
                reason = "can't be used: it is taken, or needs a file to be a folder"
                raise InvalidPath(given.path, reason) from error
