"""The cells of one session: begun when the session lock is free, followed to their end in the background."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from functools import partial

from sessions import clock
from sessions.errors import CallFailed, NoInputRequest, RegistryUnavailable, SessionEnded
from sessions.executions.artifacts import Artifacts
from sessions.executions.execution import Execution
from sessions.executions.limits import CellLimits
from sessions.executions.request import DEFAULT_TIMEOUT_MS, ExecutionRequest
from sessions.executions.result import State
from sessions.executions.running_cell import RunningCell
from sessions.executions.staging import Input
from sessions.kernels.errors import KernelEnded, SupervisorFailed
from sessions.models import Budget, Cell, CellEvent, CellResult
from sessions.ports import Recorder
from sessions.records import CellRecord
from sessions.session.cell_writer import CellWriter
from sessions.session.current_cell import CurrentCell
from sessions.session.late_results import LateResults
from sessions.session.state import SessionState
from sessions.tasks import finish

log = logging.getLogger(__name__)


class SessionCells:
    """Runs the cells of one session."""

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._services = state.services
        self._number = 0
        self._current: CurrentCell | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._late = LateResults()

    @property
    def current(self) -> RunningCell | None:
        """The cell that runs, or whose result is being written; None if there is none."""
        return None if self._current is None else self._current.cell

    @property
    def is_running(self) -> bool:
        """Whether a cell is running."""
        return self._current is not None and not self._current.cell.is_over

    # --- beginning --------------------------------------------------------------------------------

    async def execute(
        self, request: ExecutionRequest, *, detach: bool = False, allow_stdin: bool = False
    ) -> RunningCell:
        """Begin a cell. It runs to its end whether or not a reader follows it.

        Args:
            detach: return only when the cell has a row, so that its id can be looked up after a crash.
            allow_stdin: let the code ask for input.

        Raises:
            TimeoutTooLong, InvalidPath, InputNotFound, WorkspaceFull: the request is at fault.
            TooManyExecutions, SessionBusy: nothing has run.
            SessionEnded: the session was ended meanwhile.
            SupervisorFailed: the container is lost.
        """
        limits = self._services.limits
        with self._state.recording("session", request.code) as recorder:
            timeout_ms = limits.timeout_ms(request.timeout_ms, DEFAULT_TIMEOUT_MS)
            cell = request.cell(recorder.execution_id, timeout_ms, final=False, allow_stdin=allow_stdin)
            inputs = await self._services.staging.find_for(recorder, request.files)
            held = await self._take_turn(recorder, self._state.lock.acquire_limited)
            beginning = asyncio.ensure_future(self._begin(cell, inputs, recorder, limits.budget, held))
            try:
                current = await finish(beginning)
            except asyncio.CancelledError:
                # The caller has disconnected while the cell was started, so no reader would get its output.
                if beginning.exception() is None:
                    self.abandon(beginning.result().cell)
                raise
        if detach:
            await current.writer.write()
        return current.cell

    async def run(self, cell: Cell, limits: CellLimits) -> RunningCell:
        """Begin a cell with limits of its own, as `execute`. Wait for the session as long as it takes."""
        with self._state.recording("session", cell.code) as recorder:
            cell = replace(cell, cell_id=recorder.execution_id, timeout_sec=limits.timeout_sec)
            held = await self._take_turn(recorder, self._state.lock.acquire)
            return (await finish(self._begin(cell, [], recorder, limits.budget, held))).cell

    async def _take_turn(self, recorder: Recorder, acquire: Callable[[], Awaitable[None]]) -> AsyncExitStack:
        """Count the execution of the owner, and wait for the session lock, which `acquire` gets."""
        async with AsyncExitStack() as held:
            held.enter_context(self._services.running.one_of(self._state.owner))
            with recorder.timeline.during("queue"):
                await acquire()
            return held.pop_all()

    async def _begin(
        self, cell: Cell, inputs: Sequence[Input], recorder: Recorder, budget: Budget, held: AsyncExitStack
    ) -> CurrentCell:
        """Begin a cell under the session lock; `held` is closed when the cell is over."""
        try:
            async with held:
                record = CellRecord(
                    cell_id=cell.cell_id,
                    session_id=self._state.session_id,
                    number=self._number + 1,
                    code=cell.code,
                    state="running",
                    started_at=clock.now(),
                    timeout_ms=round(cell.timeout_sec * 1000),
                )
                cell = replace(cell, note=json.dumps(asdict(record), ensure_ascii=False))
                try:
                    await self._services.staging.put_for(recorder, self._state.sandbox, inputs)
                    events, in_new_kernel = await self._begin_in_kernel(held, cell, recorder, budget)
                except SupervisorFailed as error:
                    raise await self._state.recover(error) from error
                self._number += 1
                held = held.pop_all()
        except BaseException:
            self._state.lock.release()
            raise
        writer = CellWriter(self._services.rows, record)
        running = RunningCell(cell.cell_id, self._number)
        return self._follow(running, events, held, writer, recorder, in_new_kernel=in_new_kernel)

    async def _begin_in_kernel(
        self, held: AsyncExitStack, cell: Cell, recorder: Recorder, budget: Budget
    ) -> tuple[AsyncGenerator[CellEvent], bool]:
        """Begin a cell; return its events, and whether the old kernel had ended and a new one was started."""
        sandbox = self._state.sandbox
        recorder.began()
        try:
            return await held.enter_async_context(sandbox.runner.begin(cell, budget)), False
        except KernelEnded:
            with recorder.timeline.during("start"):
                await self._state.kernel.start()
            recorder.began()
            return await held.enter_async_context(sandbox.runner.begin(cell, budget)), True

    # --- running ----------------------------------------------------------------------------------

    def _follow(
        self,
        running: RunningCell,
        events: AsyncGenerator[CellEvent],
        held: AsyncExitStack,
        writer: CellWriter,
        recorder: Recorder,
        *,
        in_new_kernel: bool,
    ) -> CurrentCell:
        """Follow a cell that has begun to its end, in the background; then release the session lock."""
        services = self._services
        artifacts = Artifacts(services.files, self._state.sandbox, recorder, services.limits.artifacts)
        conclude = partial(self._conclude, writer, in_new_kernel=in_new_kernel)
        execution = Execution(events, held, artifacts, recorder, conclude, cell_id=running.cell_id)
        running.execution_id = execution.execution_id
        recorder.is_followed()
        task = asyncio.create_task(self._run(running, execution, writer))
        self._current = CurrentCell(running, writer, recorder, task)
        # A session that waits for its next call must not keep the output of the last one.
        task.add_done_callback(self._forget)
        return self._current

    def _forget(self, task: asyncio.Task[None]) -> None:
        if self._current is not None and self._current.task is task:
            self._current = None

    async def _run(self, running: RunningCell, execution: Execution, writer: CellWriter) -> None:
        """Follow a cell to its end, and write the result while the caller reads it.

        The next cell waits until the result is written. Until then the container holds the result, and a
        restarted service reads it from there.
        """
        failure: Exception | None = None
        try:
            async for event in execution.events():
                running.reply = execution.reply
                running.add(event)
            running.end()
            # Write the result even if the session is ended meanwhile.
            await finish(self._write_result(running, execution, writer))
        except asyncio.CancelledError:
            await writer.write()
            if isinstance(self._state.closed, SessionEnded):
                execution.recorder.cancelled()
                execution.recorder.write_soon()
            raise
        except SupervisorFailed as error:
            failure = await self._state.recover(error)
        except Exception as error:
            log.exception("cell %s of session %s failed", running.cell_id, self._state.session_id)
            failure = error
        finally:
            running.end(failure or self._state.closed)
            self._state.lock.release()
        if failure is not None:
            execution.recorder.write_soon()
            try:
                await writer.lost()
            except CallFailed as error:
                log.warning("the registry does not know that cell %s is lost: %s", running.cell_id, error)

    async def _write_result(self, running: RunningCell, execution: Execution, writer: CellWriter) -> None:
        # Let the reader have the result first.
        await asyncio.sleep(0)
        finished = running.gathered()
        if finished.result.execution_count is not None:
            self._state.kernel.execution_count = finished.result.execution_count
        self._state.used()
        try:
            await writer.done(finished.as_record(), execution.record)
        except RegistryUnavailable:
            if self._late.is_full or self._state.closed is not None:
                raise
            self._late.add(finished.as_record(), execution, writer)
        else:
            execution.recorder.is_written()

    async def _conclude(
        self, writer: CellWriter, result: CellResult, *, in_new_kernel: bool
    ) -> tuple[State, str]:
        """Provide a kernel for the next call, and return the state of the variables."""
        if result.kernel_alive and not in_new_kernel:
            return "kept", "the session's kernel goes on"
        if result.kernel_alive:
            stopped = result.idle_stop
            why = f" ({stopped})" if stopped is not None and stopped.action == "kernel killed" else ""
            reason = f"the kernel had ended since the last call{why}: this ran in a new one; files are kept"
            return "restarted", reason
        # With a new kernel, the container forgets the cell.
        await writer.write()
        await self._state.kernel.start()
        why = "ignored the interrupt and was killed" if result.timed_out else "ended"
        return "restarted", f"the kernel {why}; a new one is ready, without variables; files are kept"

    async def written(self) -> None:
        """Wait until the result of the last cell is in the registry, if the cell is over."""
        if self._current is not None:
            await self._current.written()

    # --- while a cell runs ------------------------------------------------------------------------

    async def answer(self, value: str) -> None:
        """Send the line of input that the running cell asks for. Raises `NoInputRequest`."""
        cell = self.current
        if cell is None or not cell.waits_for_input:
            raise NoInputRequest(self._state.session_id)
        cell.waits_for_input = False
        await self._state.sandbox.runner.answer(value)

    def abandon(self, cell: RunningCell) -> None:
        """Stop a cell in the background, because its only reader has disconnected."""
        current = self._current
        if current is not None and cell is current.cell:
            current.recorder.caller_left()
            self._stopping = asyncio.create_task(current.stop(self._state.sandbox.runner))

    # --- after a restart of the service -----------------------------------------------------------

    def count_from(self, number: int) -> None:
        """Number the next cell after `number`."""
        self._number = number

    async def resume(self, cell: CellRecord) -> None:
        """Follow a cell that was begun before the service restarted, under the session lock.

        Raises:
            SupervisorFailed: the container does not know the cell any more; the lock is free again.
        """
        left_sec = max(0.1, cell.started_at + cell.timeout_ms / 1000 - clock.now())
        await self._state.lock.acquire()
        held = AsyncExitStack()
        try:
            async with held:
                owner = self._state.owner
                held.enter_context(self._services.running.one_of(owner, runs_already=True))
                attached = self._state.sandbox.runner.attach(
                    cell.cell_id, self._services.limits.budget, left_sec
                )
                events = await held.enter_async_context(attached)
                held = held.pop_all()
        except BaseException:
            self._state.lock.release()
            raise
        writer = CellWriter(self._services.rows, cell, is_written=True)
        recorder = self._services.recording.resume(
            cell.cell_id, owner, cell.code, cell.session_id, cell.started_at
        )
        running = RunningCell(cell.cell_id, cell.number)
        self._follow(running, events, held, writer, recorder, in_new_kernel=False)

    async def close(self) -> None:
        """Stop following the running cell. It continues in its container."""
        if self._current is not None:
            await self._current.close()
        await self._late.close()
