"""One-shot executions: lease a sandbox, stage the inputs, run the code, discard the sandbox."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from sessions import clock
from sessions.containers.pool.pool import Pool
from sessions.containers.sandbox import Sandbox
from sessions.errors import CONTAINER_UNHARMED
from sessions.executions.artifacts import Artifacts
from sessions.executions.execution import Execution
from sessions.executions.limits import ExecutionLimits
from sessions.executions.request import DEFAULT_TIMEOUT_MS, ExecutionRequest
from sessions.executions.result import State
from sessions.executions.staging import Input, Staging
from sessions.kernels.errors import SupervisorFailed
from sessions.models import Caller, Cell, CellEvent, CellResult
from sessions.ports import OwnerLimit, Recorder, Recording, StoredFiles

_ATTEMPTS: Final = 3
"""Sandboxes tried until one takes the inputs. No code has run by then, so nothing runs twice."""


class OneShotExecutor:
    """Runs code of callers that have no session."""

    def __init__(
        self,
        pool: Pool,
        files: StoredFiles,
        staging: Staging,
        recording: Recording,
        running: OwnerLimit,
        limits: ExecutionLimits,
    ) -> None:
        self._pool = pool
        self._files = files
        self._staging = staging
        self._recording = recording
        self._running = running
        self._limits = limits

    async def begin(self, request: ExecutionRequest, caller: Caller) -> Execution:
        """Return an execution whose code has begun. All errors that refuse the call are raised here.

        Raises:
            TimeoutTooLong, InvalidPath, InputNotFound, WorkspaceFull: the request is at fault.
            TooManyExecutions, AllKernelsBusy, NoCapacity, SupervisorFailed, EngineUnavailable: a later try
                may succeed.
        """
        held = AsyncExitStack()
        with self._recording.begin("execute", caller.owner, request.code) as recorder:
            async with held:
                timeout_ms = self._limits.timeout_ms(request.timeout_ms, DEFAULT_TIMEOUT_MS)
                cell = request.cell(recorder.execution_id, timeout_ms, final=True)
                inputs = await self._staging.find_for(recorder, request.files)
                held.enter_context(self._running.one_of(caller.owner))
                sandbox, events = await self._begin(cell, inputs, caller, recorder, held)
                held = held.pop_all()
        artifacts = Artifacts(self._files, sandbox, recorder, self._limits.artifacts)
        return Execution(events, held, artifacts, recorder, partial(self._conclude, sandbox, recorder))

    async def _begin(
        self, cell: Cell, inputs: Sequence[Input], caller: Caller, recorder: Recorder, held: AsyncExitStack
    ) -> tuple[Sandbox, AsyncGenerator[CellEvent]]:
        """Lease a sandbox, which is given back when `held` is closed, and begin the cell in it."""
        attempt = 1
        while True:
            async with AsyncExitStack() as stack:
                waiting_since = clock.now()
                sandbox = await stack.enter_async_context(self._pool.lease(caller.tenant))
                recorder.timeline.waited(waiting_since, sandbox.launched)
                try:
                    await self._staging.put_for(recorder, sandbox, inputs)
                    recorder.began()
                    events = await stack.enter_async_context(sandbox.runner.begin(cell, self._limits.budget))
                except SupervisorFailed:
                    recorder.did_not_begin()
                    if attempt == _ATTEMPTS:
                        raise
                    await self._pool.drop_dead()
                except CONTAINER_UNHARMED:
                    sandbox.ended_well = True
                    raise
                else:
                    held.push_async_exit(stack.pop_all())
                    return sandbox, events
            attempt += 1

    async def _conclude(self, sandbox: Sandbox, recorder: Recorder, result: CellResult) -> tuple[State, str]:
        """Release the sandbox for reuse, and write the row while the caller reads the answer."""
        sandbox.ended_well = result.kernel_alive and not result.timed_out and not result.over_cpu_limit
        recorder.write_soon()
        return "discarded", "a call without a session gets its own kernel, which is discarded afterwards"
