"""One open session: a kernel that is kept, one execution at a time, and what ran in it."""

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Final

from service.database.container_registry import ContainerRegistry
from service.database.session_registry import SessionRegistry
from service.routes.schemas.sessions import BashRequest, BashResponse, SessionExecuteRequest
from service.telemetry.execution_log import ExecutionRecorder
from sessions import clock
from sessions.cell_writer import CellWriter
from sessions.containers.sandbox import Sandbox
from sessions.errors import (
    CallFailed,
    NoInputRequest,
    RegistryUnavailable,
    SessionBusy,
    SessionEnded,
    log_text,
)
from sessions.executions.execution import Conclude, Execution, State
from sessions.executions.one_shot import Input, OneShotExecutor
from sessions.kernels.assistance import Question
from sessions.kernels.errors import KernelEnded, SupervisorFailed
from sessions.late_results import LateResults
from sessions.lock import SessionLock
from sessions.models import Budget, Cell, CellEvent, CellResult, JsonObject, KernelMessage, Mark, OutputChunk
from sessions.records import CellRecord, ExecutionKind, ExecutionRecord, SessionRecord
from sessions.running_cell import RunningCell
from sessions.session_kernel import SessionKernel
from sessions.shell_command import GRACE_SEC, run_command
from sessions.tasks import finish

_QUESTION_SEC: Final = 10.0
"""How long a question waits for those before it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellLimits:
    """What code may use whose limits are not those of the API."""

    timeout_sec: float
    budget: Budget


class Session:
    """An open session. `on_lost(session)` is called when its container turns out to be gone."""

    def __init__(
        self,
        record: SessionRecord,
        sandbox: Sandbox,
        executor: OneShotExecutor,
        registry: ContainerRegistry,
        sessions: SessionRegistry,
        on_lost: Callable[["Session"], None],
    ) -> None:
        self.record = record
        self.sandbox = sandbox
        self.kernel = SessionKernel(record.session_id, sandbox, registry)
        self.cell: RunningCell | None = None
        """The running cell, or the last one of this life of the service."""
        self._note: CellWriter | None = None
        self._entry: ExecutionRecorder | None = None
        """Both are that cell's."""
        self._executor = executor
        self._sessions = sessions
        self._on_lost = on_lost
        settings = executor.stores.settings.sessions
        self._turn = SessionLock(
            record.session_id,
            settings.session_queue_size,
            settings.session_queue_timeout_sec,
        )
        self._questions = asyncio.Lock()
        self._number = 0
        self._task: asyncio.Task[None] | None = None
        self.renewed_at = time.monotonic()
        """When its container was last told to live on, by the clock of `time.monotonic`."""
        self._closed: Exception | None = None
        self.ended = asyncio.Event()
        """Set when the session is over, or this life of the service is."""
        self._handles_message = False
        self._ending: asyncio.Task[None] | None = None
        self._late = LateResults()

    @property
    def session_id(self) -> str:
        return self.record.session_id

    @property
    def busy(self) -> bool:
        """Whether code is running."""
        return self._turn.is_taken

    def follow(self, on_new_kernel: Callable[[bool], None]) -> None:
        """Somebody else follows all that the kernel publishes, also while no cell runs.

        Then it is worth while to publish, and what is for us must not pile up in the kernel.

        Args:
            on_new_kernel: called when a kernel has taken the place of another, with whether somebody
                asked for that.
        """
        self.kernel.follow(on_new_kernel)
        self._turn.have_done_between(self.sandbox.runner.discard_published)

    def unfollow(self) -> None:
        """Nobody does any more."""
        self.kernel.unfollow()
        self._turn.have_done_between(None)

    @property
    def runs_in_kernel(self) -> bool:
        """Whether a cell is running, or a message handled, and not just a command."""
        return self._handles_message or (self.cell is not None and not self.cell.over)

    # --- cells ------------------------------------------------------------------------------------

    async def execute(self, request: SessionExecuteRequest) -> RunningCell:
        """Begin a cell when it is its turn; it then runs whether anybody follows or not.

        Raises:
            TimeoutTooLong, InvalidPath, InputNotFound, WorkspaceFull: the request is at fault.
            TooManyExecutions, SessionBusy: nothing has run.
            SessionEnded: it was ended meanwhile.
            SupervisorFailed: the container is lost.
        """
        with self._execution("session", request.code) as entry:
            cell = self._executor.cell_of(request, entry, final=False, allow_stdin=request.allow_stdin)
            inputs = await self._executor.check_inputs(request.files, entry)
            live, note = await self._execute(cell, inputs, entry, None)
            if request.detach:
                await note.write()
            return live
        raise AssertionError("unreachable")

    async def run_cell(self, cell: Cell, limits: CellLimits) -> RunningCell:
        """As `execute`, for a cell whose caller waits for its turn as long as it takes."""
        with self._execution("session", cell.code) as entry:
            cell = replace(cell, cell_id=entry.execution_id, timeout_sec=limits.timeout_sec)
            live, _ = await self._execute(cell, [], entry, limits)
            return live
        raise AssertionError("unreachable")

    @contextmanager
    def _execution(self, kind: ExecutionKind, code: str) -> Iterator[ExecutionRecorder]:
        """An execution, until somebody follows it or it is over.

        That the container goes is no failure where the session has been ended.
        """
        with self._executor.executions.begin(kind, self.record.owner, code, self.session_id) as entry:
            try:
                yield entry
            except SupervisorFailed:
                if isinstance(self._closed, SessionEnded):
                    raise self._closed from None
                raise

    async def _execute(
        self, cell: Cell, inputs: list[Input], entry: ExecutionRecorder, limits: CellLimits | None
    ) -> tuple[RunningCell, CellWriter]:
        """Begin a cell when it is its turn; with `limits` of its own it waits for that patiently."""
        budget = self._executor.budget if limits is None else limits.budget
        async with AsyncExitStack() as counted:
            counted.enter_context(self._executor.running.one_of(self.record.owner))
            with entry.timeline.during("queue"):
                await self._turn.take(patiently=limits is not None)
            # Who goes away while it is begun would leave a cell that nobody follows.
            work = self._begin_to_follow(cell, inputs, entry, budget, counted.pop_all())
            beginning = asyncio.ensure_future(work)
            try:
                return await finish(beginning)
            except asyncio.CancelledError:
                if beginning.exception() is None and limits is None:
                    self.abandon(beginning.result()[0])
                raise
        raise AssertionError("unreachable")

    async def _begin_to_follow(
        self, cell: Cell, inputs: list[Input], entry: ExecutionRecorder, budget: Budget, held: AsyncExitStack
    ) -> tuple[RunningCell, CellWriter]:
        """Begin a cell, whose turn it is; `held` is closed when it is over."""
        try:
            async with held as stack:
                record = CellRecord(
                    cell_id=cell.cell_id,
                    session_id=self.session_id,
                    number=self._number + 1,
                    code=cell.code,
                    state="running",
                    started_at=clock.now(),
                    timeout_ms=round(cell.timeout_sec * 1000),
                )
                cell = replace(cell, note=json.dumps(asdict(record), ensure_ascii=False))
                try:
                    await self._executor.stage(self.sandbox, inputs, entry)
                    events, in_new_kernel = await self._begin(stack, cell, entry, budget)
                except SupervisorFailed as error:
                    raise await self._recover(error) from error
                self._number += 1
                live = RunningCell(cell.cell_id, self._number)
                note = CellWriter(self._sessions, record)
                conclude = self._tell_of_new_kernel if in_new_kernel else self._conclude
                self._follow(live, events, stack.pop_all(), conclude, note, entry)
        except BaseException:
            self._turn.end()
            raise
        return live, note

    async def _begin(
        self, stack: AsyncExitStack, cell: Cell, entry: ExecutionRecorder, budget: Budget
    ) -> tuple[AsyncGenerator[CellEvent], bool]:
        """Begin a cell; also gives whether it is in a new kernel, the old one having ended meanwhile."""
        entry.began()
        try:
            return await stack.enter_async_context(self.sandbox.runner.begin(cell, budget)), False
        except KernelEnded:
            with entry.timeline.during("start"):
                await self.kernel.start()
            entry.began()
            return await stack.enter_async_context(self.sandbox.runner.begin(cell, budget)), True

    def _follow(
        self,
        live: RunningCell,
        events: AsyncGenerator[CellEvent],
        lease: AsyncExitStack,
        conclude: Conclude,
        note: CellWriter,
        entry: ExecutionRecorder,
    ) -> None:
        """Run a begun cell to its end in the background; then the next one has its turn."""
        run = Execution(
            self._executor.stores,
            self.sandbox,
            events,
            lease,
            conclude,
            entry,
            cell_id=live.cell_id,
        )
        live.execution_id = run.execution_id
        entry.is_followed = True
        self.cell, self._note, self._entry = live, note, entry
        self._task = asyncio.create_task(self._run(live, run, note))

    async def _run(self, live: RunningCell, run: Execution, note: CellWriter) -> None:
        """Run it, and write the result while the caller reads it.

        That is safe: until the next cell begins, which waits for this one's result to be written,
        the container has it all, and a new life of the service takes it from there.
        """
        failure: Exception | None = None
        try:
            async for event in run.events():
                live.reply = run.reply
                live.add(event)
            live.end()
            # Also where the session is ended meanwhile.
            await finish(self._keep_result(live, run, note))
        except asyncio.CancelledError:
            await note.write()
            if isinstance(self._closed, SessionEnded):
                run.entry.cancelled()
                run.entry.not_kept()
            raise
        except SupervisorFailed as error:
            failure = await self._recover(error)
        except Exception as error:
            log.exception("cell %s of session %s failed", live.cell_id, self.session_id)
            failure = error
        finally:
            live.end(failure or self._closed)
            self._turn.end()
        if failure is not None:
            run.entry.not_kept()
            try:
                await note.lost()
            except CallFailed as error:
                log.warning("the registry is not told that cell %s is lost: %s", live.cell_id, error)

    async def _recover(self, failure: SupervisorFailed) -> SupervisorFailed:
        """Put right what the container did not do as agreed: a new kernel, or the session is lost.

        Returns what to tell the caller.
        """
        if self._closed is not None:
            return failure
        log.warning("session %s: %s", self.session_id, log_text(failure))
        try:
            await self.kernel.start()
        except SupervisorFailed:
            self._on_lost(self)
            return failure
        outcome = "a new one is ready, without variables; files are kept"
        return SupervisorFailed(failure.summary, failure.quoted, outcome)

    async def _keep_result(self, live: RunningCell, run: Execution, note: CellWriter) -> None:
        # The caller's turn comes first.
        await asyncio.sleep(0)
        response = live.gathered()
        if response.execution_count is not None:
            self.kernel.execution_count = response.execution_count
        self.used()
        try:
            await note.done(response.model_dump(), run.record)
        except RegistryUnavailable:
            if self._late.are_many or self._closed is not None:
                raise
            self._late.keep(response.model_dump(), run, note)
        else:
            run.entry.kept()

    async def _conclude(self, result: CellResult, _: ExecutionRecord) -> tuple[State, str]:
        """See to it that the next call finds a kernel."""
        if result.kernel_alive:
            return "kept", "the session's kernel goes on"
        if self._note is not None:
            # With a new kernel the container forgets the cell.
            await self._note.write()
        await self.kernel.start()
        why = "ignored the interrupt and was killed" if result.timed_out else "ended"
        return "restarted", f"the kernel {why}; a new one is ready, without variables; files are kept"

    async def _tell_of_new_kernel(self, result: CellResult, row: ExecutionRecord) -> tuple[State, str]:
        state, reason = await self._conclude(result, row)
        if state == "kept":
            return (
                "restarted",
                "the kernel had ended since the last call: this ran in a new one; files are kept",
            )
        return state, reason

    def used(self) -> None:
        """It has been used just now; the registry is told another time."""
        self.record = replace(self.record, last_used_at=clock.now())

    async def _touch(self) -> None:
        now = clock.now()
        self.record = replace(self.record, last_used_at=now)
        await self._sessions.update_session(self.session_id, last_used_at=now)

    async def written(self) -> None:
        """Wait until what has ended is in the registry."""
        if self._task is not None and self.cell is not None and self.cell.over:
            await asyncio.wait({self._task})

    async def interrupt(self) -> None:
        """Interrupt what runs; nothing if nothing does."""
        if self.busy:
            await self.sandbox.runner.interrupt()

    def abandon(self, cell: RunningCell) -> None:
        """Nobody follows that cell any more: end it, in the background."""
        if cell is self.cell and self._entry is not None:
            self._entry.left()
        self._ending = asyncio.create_task(self._interrupt_cell(cell))

    async def _interrupt_cell(self, cell: RunningCell) -> None:
        """Interrupt that cell, and kill what does not heed it; nothing if it is over."""
        if cell is not self.cell or cell.over:
            return
        await self.sandbox.runner.interrupt()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SEC):
                await cell.wait()
        if not cell.over:
            await self.sandbox.runner.kill_kernel()

    @property
    def max_file_bytes(self) -> int:
        """The largest file it takes."""
        return self._executor.stores.settings.storage.max_file_bytes

    async def answer(self, value: str) -> None:
        """Answer what the running cell asks. Raises `NoInputRequest`."""
        if self.cell is None or not self.cell.asks:
            raise NoInputRequest(self.session_id)
        self.cell.asks = False
        await self.sandbox.runner.answer(value)

    async def restart(self) -> None:
        """Replace the kernel, also while a cell runs, which ends by that; files are kept."""
        unwanted = self.kernel.unwant()
        if self.runs_in_kernel:
            await self.sandbox.runner.kill_kernel()
        async with self._turn.own():
            # The end of the cell has brought a new one, which those who waited may work in.
            if self.kernel.key == unwanted:
                await self.kernel.start()
            await self._touch()

    async def revive(self) -> None:
        """Replace a kernel that has ended while nothing ran.

        Raises:
            SupervisorFailed: the container is lost, or slow.
        """
        async with self._turn.own(patiently=True):
            if not await self.sandbox.runner.has_kernel():
                await self.kernel.start()

    async def handle(self, message: KernelMessage, limits: CellLimits) -> AsyncGenerator[OutputChunk | Mark]:
        """Have the kernel handle a message that is no cell but runs code, when it is its turn.

        It has the limits of a cell, and no place in the history. Gives what the code prints.

        Raises:
            SupervisorFailed: the container did not do as agreed, and is put right.
        """
        owner = self.record.owner
        async with AsyncExitStack() as stack:
            stack.enter_context(self._executor.running.one_of(owner, runs_already=True))
            await stack.enter_async_context(self._turn.own(patiently=True))
            self._handles_message = True
            try:
                begun = self.sandbox.runner.begin_message(message, limits.budget, limits.timeout_sec)
                async for event in await stack.enter_async_context(begun):
                    if isinstance(event, OutputChunk | Mark):
                        yield event
                    elif isinstance(event, CellResult):
                        self.used()
                        if not event.kernel_alive:
                            await self.kernel.start()
            except KernelEnded:
                # Whatever the message was about is gone with the old one.
                await self.kernel.start()
            except SupervisorFailed as error:
                raise await self._recover(error) from error
            finally:
                self._handles_message = False

    async def run_command(self, request: BashRequest) -> BashResponse:
        """Run a shell command in the workspace, when it is its turn. Who is cancelled ends it."""
        with (
            self._execution("bash", request.cmd) as entry,
            self._executor.running.one_of(self.record.owner),
        ):
            with entry.timeline.during("queue"):
                await self._turn.take()
            try:
                return await run_command(
                    self.sandbox, request, self._executor.budget, entry, self._keep_command
                )
            finally:
                self._turn.end()

    async def _keep_command(self, execution: ExecutionRecord) -> None:
        self.record = replace(self.record, last_used_at=execution.finished_at)
        await self._sessions.add_command(self.session_id, execution)

    async def ask(self, question: Question) -> JsonObject:
        """What the kernel says of code that is being written; questions come one after the other.

        Raises:
            SessionBusy: something runs, or too many questions wait.
        """
        try:
            async with asyncio.timeout(_QUESTION_SEC):
                await self._questions.acquire()
        except TimeoutError:
            raise SessionBusy(self.session_id) from None
        try:
            if self.busy:
                raise SessionBusy(self.session_id)
            async with self._turn.own():
                self.record = replace(self.record, last_used_at=clock.now())
                return await self.sandbox.runner.ask(question)
        finally:
            self._questions.release()

    # --- a new life of the service ------------------------------------------------------------------

    async def resume(self) -> None:
        """Take up a session of an earlier life: its kernel, and the cell that ran when it ended.

        Raises:
            SupervisorFailed: the container is gone.
        """
        await self.sandbox.renew_lease(self._executor.stores.settings.sessions.session_lease_sec)
        cells = await self._sessions.cells(self.session_id)
        note = await self.sandbox.runner.last_note()
        if note:
            last = CellRecord(**json.loads(note))
            if last.cell_id not in {cell.cell_id for cell in cells}:
                await self._sessions.add_cell(last)
                cells.append(last)
        self._number = max((cell.number for cell in cells), default=0)
        used = [cell.finished_at for cell in cells if cell.finished_at is not None]
        self.record = replace(self.record, last_used_at=max([self.record.last_used_at, *used]))
        counts = [cell.result.get("execution_count") for cell in cells if cell.result]
        self.kernel.execution_count = next((count for count in reversed(counts) if isinstance(count, int)), 0)
        self.sandbox.runner.reconnect()
        running = [cell for cell in cells if cell.state == "running"]
        for cell in running[:-1]:
            await self._lose_cell(cell)
        if running:
            await self._resume_cell(running[-1])
        else:
            await self.kernel.make_sure()

    async def _resume_cell(self, cell: CellRecord) -> None:
        left = max(0.1, cell.started_at + cell.timeout_ms / 1000 - clock.now())
        await self._turn.take(patiently=True)
        async with AsyncExitStack() as stack:
            try:
                stack.enter_context(self._executor.running.one_of(self.record.owner, runs_already=True))
                attached = self.sandbox.runner.attach(cell.cell_id, self._executor.budget, left)
                events = await stack.enter_async_context(attached)
            except SupervisorFailed:
                self._turn.end()
                await self._lose_cell(cell)
                await self.kernel.make_sure()
                return
            live = RunningCell(cell.cell_id, cell.number)
            note = CellWriter(self._sessions, cell, is_written=True)
            entry = self._executor.executions.resume(
                cell.cell_id, self.record.owner, cell.code, self.session_id, cell.started_at
            )
            self._follow(live, events, stack.pop_all(), self._conclude, note, entry)

    async def _lose_cell(self, cell: CellRecord) -> None:
        self._executor.executions.lose(cell, self.record.owner)
        await self._sessions.finish_cell(cell.cell_id, "lost", clock.now(), None)

    async def close(self, failure: Exception) -> None:
        """Let go: who follows the running cell, or waits for a turn, gets `failure`. The container stays."""
        self._closed = failure
        self._turn.close(failure)
        self.ended.set()
        self.unfollow()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._late.close()


def new_session_id() -> str:
    """A random id for a session."""
    return str(uuid.uuid4())
