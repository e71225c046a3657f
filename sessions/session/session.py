"""One open session: a kernel that is kept between calls, one execution at a time."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Final

from sessions.containers.sandbox import Sandbox
from sessions.errors import SessionBusy
from sessions.executions.limits import CellLimits
from sessions.kernels.assistance import Question
from sessions.models import Command, JsonObject, Mark, OutputChunk, PackedMessage
from sessions.records import ExecutionRecord, SessionRecord
from sessions.session import resumption
from sessions.session.cells import SessionCells
from sessions.session.files import SessionFiles
from sessions.session.kernel import SessionKernel
from sessions.session.messages import KernelMessages
from sessions.session.services import SessionServices
from sessions.session.shell_command import DEFAULT_COMMAND_MS, CommandRequest, CommandResult, run_command
from sessions.session.state import SessionState

_QUESTION_SEC: Final = 10.0
"""Seconds that a question waits for earlier questions."""


class Session:
    """An open session. Its parts share one `SessionState`."""

    def __init__(
        self,
        record: SessionRecord,
        sandbox: Sandbox,
        services: SessionServices,
        on_lost: Callable[["Session"], None],
    ) -> None:
        """Open a session in a sandbox.

        Args:
            on_lost: called when the container is found to be gone. It must not wait for the running cell.
        """
        self._state = SessionState(record, sandbox, services, lambda: on_lost(self))
        self.cells = SessionCells(self._state)
        self.files = SessionFiles(self._state)
        self._messages = KernelMessages(self._state)
        self._questions = asyncio.Lock()
        self.renewed_at = time.monotonic()
        """When the lease of the container was last renewed, by `time.monotonic`."""
        self.ended = asyncio.Event()
        """Set when the session has ended or the service is stopping."""

    @property
    def record(self) -> SessionRecord:
        return self._state.record

    @property
    def session_id(self) -> str:
        return self._state.session_id

    @property
    def sandbox(self) -> Sandbox:
        return self._state.sandbox

    @property
    def kernel(self) -> SessionKernel:
        return self._state.kernel

    @property
    def busy(self) -> bool:
        """Whether a call holds the session lock."""
        return self._state.lock.is_taken

    @property
    def is_in_use(self) -> bool:
        """Whether a call holds the session lock, or reads or writes files."""
        return self.busy or self.files.is_in_use

    @property
    def runs_in_kernel(self) -> bool:
        """Whether the kernel runs a cell or handles a message. False during a shell command."""
        return self._messages.is_handling or self.cells.is_running

    # --- its life ---------------------------------------------------------------------------------

    def used(self) -> None:
        """Note that the session was used now. Its row is written later."""
        self._state.used()

    def expires(self, at: float) -> None:
        """Note when the session expires, in seconds since the epoch. The caller writes the row."""
        self._state.record = replace(self._state.record, expires_at=at)

    async def resume(self) -> None:
        """Take up the session after a restart of the service.

        Raises:
            SupervisorFailed: the container is gone.
        """
        await resumption.resume(self._state, self.cells)

    async def close(self, failure: Exception) -> None:
        """Stop following the session. Its callers get `failure`; the container stays."""
        self._state.closed = failure
        self._state.lock.close(failure)
        self.ended.set()
        self.stop_observing()
        await self.cells.close()

    # --- its kernel -------------------------------------------------------------------------------

    def observe(self, on_new_kernel: Callable[[bool], None]) -> None:
        """Keep the kernel's channels empty between cells, because another client reads what it publishes.

        Args:
            on_new_kernel: called after each replacement of the kernel, with whether a restart was requested.
        """
        self.kernel.observe(on_new_kernel)
        self._state.lock.run_while_idle(self.sandbox.runner.discard_published)

    def stop_observing(self) -> None:
        """Undo `observe`."""
        self.kernel.stop_observing()
        self._state.lock.run_while_idle(None)

    async def interrupt(self) -> None:
        """Interrupt the running code; do nothing if none runs."""
        if self.busy:
            await self.sandbox.runner.interrupt()

    async def restart(self) -> None:
        """Replace the kernel, and end the cell that runs in it. Files are kept."""
        key = self.kernel.request_restart()
        if self.runs_in_kernel:
            await self.sandbox.runner.kill_kernel()
        async with self._state.lock.hold_limited():
            # The end of the cell may have brought a new kernel already, which waiting calls may use.
            if self.kernel.key == key:
                await self.kernel.start()
            self.used()
            await self._state.services.rows.update_session(
                self.session_id, last_used_at=self.record.last_used_at
            )

    async def revive(self) -> None:
        """Replace a kernel that has ended while no code ran.

        Raises:
            SupervisorFailed: the container is lost, or slow to answer.
        """
        async with self._state.lock.hold():
            if not await self.sandbox.runner.has_kernel():
                await self.kernel.start()

    def handle(self, message: PackedMessage, limits: CellLimits) -> AsyncGenerator[OutputChunk | Mark]:
        """Have the kernel handle a message that is no cell, see `KernelMessages.handle`."""
        return self._messages.handle(message, limits)

    async def ask(self, question: Question) -> JsonObject:
        """Ask the kernel about code that is being written. Questions are asked one after the other.

        Raises:
            SessionBusy: code runs, or earlier questions take too long.
        """
        try:
            async with asyncio.timeout(_QUESTION_SEC):
                await self._questions.acquire()
        except TimeoutError:
            raise SessionBusy(self.session_id) from None
        try:
            if self.busy:
                raise SessionBusy(self.session_id)
            async with self._state.lock.hold_limited():
                self.used()
                return await self.sandbox.runner.ask(question)
        finally:
            self._questions.release()

    # --- shell commands ---------------------------------------------------------------------------

    async def run_command(self, request: CommandRequest) -> CommandResult:
        """Run a shell command in the workspace. If the caller is cancelled, stop the command.

        Raises:
            TimeoutTooLong: the request is at fault.
            TooManyExecutions, SessionBusy: nothing has run.
            SessionEnded, SupervisorFailed: the session was ended, or its container failed.
        """
        services = self._state.services
        timeout_ms = services.limits.timeout_ms(request.timeout_ms, DEFAULT_COMMAND_MS)
        with (
            self._state.recording("bash", request.command) as recorder,
            services.running.one_of(self._state.owner),
        ):
            with recorder.timeline.during("queue"):
                await self._state.lock.acquire_limited()
            try:
                command = Command(request.command, timeout_ms / 1000, recorder.execution_id)
                return await run_command(
                    self.sandbox, command, services.limits.budget, recorder, self._write_command
                )
            finally:
                self._state.lock.release()

    async def _write_command(self, execution: ExecutionRecord) -> None:
        self._state.record = replace(self.record, last_used_at=execution.finished_at)
        await self._state.services.rows.add_command(self.session_id, execution)


def new_session_id() -> str:
    """Return a random id for a session."""
    return str(uuid.uuid4())
