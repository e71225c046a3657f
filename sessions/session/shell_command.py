"""A shell command in the workspace of a session."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from sessions.containers.sandbox import Sandbox
from sessions.errors import CallFailed
from sessions.kernels.errors import SupervisorFailed
from sessions.models import Budget, CellEvent, CellResult, Command, OutputChunk, Stream, Usage
from sessions.ports import Recorder
from sessions.records import ExecutionRecord
from sessions.tasks import finish

DEFAULT_COMMAND_MS: Final = 30_000
"""Timeout of a command whose caller gives none, in milliseconds."""
GRACE_SEC: Final = 2.0
"""Seconds that code has to react to an interrupt before it is killed."""

WriteRow = Callable[[ExecutionRecord], Awaitable[None]]


@dataclass(frozen=True)
class CommandRequest:
    """A command for `bash -c`."""

    command: str
    timeout_ms: int | None = None
    """In milliseconds; None means `DEFAULT_COMMAND_MS`, or the maximum if that is less."""


@dataclass(frozen=True)
class CommandResult:
    """How a shell command ended."""

    stdout: str
    stderr: str
    exit_code: int | None
    """128 + n after signal n; None after a timeout."""
    timed_out: bool
    duration_ms: int
    execution_id: str
    usage: Usage
    notice: str
    """As in `ExecutionResult`."""


async def run_command(
    sandbox: Sandbox, command: Command, budget: Budget, recorder: Recorder, write_row: WriteRow
) -> CommandResult:
    """Run the command and write its row. If the caller is cancelled, stop the command.

    Raises:
        SupervisorFailed: the container failed.
        CallFailed: the row could not be written; it is written later.
    """
    recorder.began()
    async with sandbox.runner.begin_command(command, budget) as events:
        running = asyncio.create_task(_follow(events, recorder, write_row))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            recorder.caller_left()
            await _stop(sandbox, running)
            raise


async def _follow(
    events: AsyncGenerator[CellEvent], recorder: Recorder, write_row: WriteRow
) -> CommandResult:
    text: dict[Stream, list[str]] = {"stdout": [], "stderr": []}
    async for event in events:
        if isinstance(event, OutputChunk):
            text[event.stream].append(event.text)
        elif isinstance(event, CellResult):
            recorder.ran(event)
            await finish(_write(recorder, recorder.ended(event, 0, 0), write_row))
            return CommandResult(
                stdout="".join(text["stdout"]),
                stderr="".join(text["stderr"]),
                exit_code=event.exit_code,
                timed_out=event.timed_out,
                duration_ms=event.duration_ms,
                execution_id=recorder.execution_id,
                usage=event.usage,
                notice=event.notice,
            )
    raise SupervisorFailed("the events of a command ended without a result")


async def _write(recorder: Recorder, record: ExecutionRecord, write_row: WriteRow) -> None:
    try:
        await write_row(record)
    except CallFailed:
        recorder.write_soon()
        raise
    recorder.is_written()


async def _stop(sandbox: Sandbox, running: asyncio.Task[CommandResult]) -> None:
    """Interrupt the command, and kill it if it ignores the interrupt."""
    for kill in (False, True):
        if not running.done():
            await sandbox.runner.interrupt(kill=kill)
            await asyncio.wait({running}, timeout=GRACE_SEC)
    running.cancel()
    await asyncio.wait({running})
