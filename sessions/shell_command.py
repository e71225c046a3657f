"""A shell command in the workspace of a session."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from service.routes.schemas.sessions import BashRequest, BashResponse
from service.telemetry.execution_log import ExecutionRecorder
from sessions.containers.sandbox import Sandbox
from sessions.errors import CallFailed
from sessions.models import Budget, CellEvent, CellResult, Command, OutputChunk
from sessions.records import ExecutionRecord
from sessions.tasks import finish

GRACE_SEC: Final = 2.0
"""How long code may take to heed an interrupt before it is killed."""

Keep = Callable[[ExecutionRecord], Awaitable[None]]


async def run_command(
    sandbox: Sandbox, request: BashRequest, budget: Budget, entry: ExecutionRecorder, keep: Keep
) -> BashResponse:
    """Run it and `keep` the record of it; who is cancelled ends it.

    Raises:
        SupervisorFailed: the container did not do as agreed.
    """
    command = Command(request.cmd, request.timeout_ms / 1000, entry.execution_id)
    entry.began()
    async with sandbox.runner.begin_command(command, budget) as events:
        running = asyncio.create_task(_follow(events, entry, keep))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            entry.left()
            await _stop(sandbox, running)
            raise


async def _follow(events: AsyncGenerator[CellEvent], entry: ExecutionRecorder, keep: Keep) -> BashResponse:
    text: dict[str, list[str]] = {"stdout": [], "stderr": []}
    async for event in events:
        if isinstance(event, OutputChunk):
            text[event.stream].append(event.text)
        elif isinstance(event, CellResult):
            entry.ran(event)
            await finish(_kept(entry, entry.ended(event), keep))
            return BashResponse(
                stdout="".join(text["stdout"]),
                stderr="".join(text["stderr"]),
                exit_code=event.exit_code,
                timed_out=event.timed_out,
                duration_ms=event.duration_ms,
                execution_id=entry.execution_id,
            )
    raise AssertionError("a command ended without a result")


async def _kept(entry: ExecutionRecorder, execution: ExecutionRecord, keep: Keep) -> None:
    try:
        await keep(execution)
    except CallFailed:
        entry.not_kept()
        raise
    entry.kept()


async def _stop(sandbox: Sandbox, running: asyncio.Task[BashResponse]) -> None:
    """Interrupt the command, and kill it if it does not heed that."""
    for kill in (False, True):
        if not running.done():
            await sandbox.runner.interrupt(kill=kill)
            await asyncio.wait({running}, timeout=GRACE_SEC)
    running.cancel()
    await asyncio.wait({running})
