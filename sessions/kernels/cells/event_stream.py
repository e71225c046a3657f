"""The events of one cell, in order, up to its result.

Text comes from the supervisor, which reads the pipes of the code. Displays and the reply come from the
kernel, as messages. A cell is over when the kernel has replied and is idle, or when the process is dead. Then
the supervisor sends the rest of the text and the files that changed.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Final

from kernel_image import contract
from sessions.kernels.cell_socket import Frames
from sessions.kernels.cells import verdict
from sessions.kernels.cells.cell_end import CellEnd, Death
from sessions.kernels.cells.sources import AttachedCell, KernelCell, MessageHandling, ShellCommand, Source
from sessions.kernels.cells.text import STREAMS
from sessions.kernels.cells.time_limit import TimeLimit
from sessions.kernels.client import KernelClient
from sessions.kernels.errors import SupervisorFailed
from sessions.kernels.plain_json import whole_number
from sessions.kernels.supervisor_client import SupervisorClient
from sessions.models import Budget, Cell, CellError, CellEvent, CellResult, PackedMessage, Usage

_REPLY_SEC: Final = 5.0
"""Time for the kernel's reply after the supervisor has reported the cell's end."""
_TEXT_SEC: Final = 30.0
"""Time for the rest of the text and the last frame, after the code has ended."""

_Queue = asyncio.Queue[CellEvent | None]


class CellEventStream:
    """Follows one cell once. Use `of_cell`, `of_message`, `of_attached_cell` or `of_command`."""

    def __init__(
        self,
        supervisor: SupervisorClient,
        source: Source,
        events: _Queue,
        budget: Budget,
        timeout_sec: float,
    ) -> None:
        """`source` puts its events into `events`."""
        self._supervisor = supervisor
        self._source = source
        self._events = events
        self._budget = budget
        self._limit = TimeLimit(supervisor, timeout_sec)
        self._end: CellEnd
        self._ended = asyncio.Event()

    @classmethod
    def of_cell(
        cls, supervisor: SupervisorClient, kernel: KernelClient, cell: Cell, budget: Budget
    ) -> "CellEventStream":
        """Send the request to run a cell. The kernel runs it when its supervisor has begun the cell."""
        events: _Queue = asyncio.Queue()
        source = KernelCell(supervisor, budget, events.put_nowait, kernel, cell)
        return cls(supervisor, source, events, budget, cell.timeout_sec)

    @classmethod
    def of_message(
        cls,
        supervisor: SupervisorClient,
        kernel: KernelClient,
        message: PackedMessage,
        budget: Budget,
        timeout_sec: float,
    ) -> "CellEventStream":
        """Return the stream of a message that makes the kernel run code and has no reply, as a widget's."""
        events: _Queue = asyncio.Queue()
        source = MessageHandling(supervisor, budget, events.put_nowait, kernel, message)
        return cls(supervisor, source, events, budget, timeout_sec)

    @classmethod
    def of_attached_cell(
        cls, supervisor: SupervisorClient, budget: Budget, timeout_sec: float
    ) -> "CellEventStream":
        """Return the stream of a cell that was begun before the service was restarted.

        `timeout_sec` is what is left of the cell's time.
        """
        events: _Queue = asyncio.Queue()
        source = AttachedCell(supervisor, budget, events.put_nowait)
        return cls(supervisor, source, events, budget, timeout_sec)

    @classmethod
    def of_command(
        cls, supervisor: SupervisorClient, budget: Budget, timeout_sec: float
    ) -> "CellEventStream":
        """Return the stream of a shell command that the supervisor has begun."""
        events: _Queue = asyncio.Queue()
        source = ShellCommand(supervisor, budget, events.put_nowait)
        return cls(supervisor, source, events, budget, timeout_sec)

    async def events(self, frames: Frames) -> AsyncGenerator[CellEvent]:
        """Follow the code: yield output as it arrives, and the result as the last event.

        Closing the iterator early abandons the cell.

        Args:
            frames: what the supervisor sends about the cell.

        Raises:
            SupervisorFailed: the container is lost.
        """
        running = asyncio.ensure_future(self._run(frames))
        try:
            while (event := await self._events.get()) is not None:
                yield event
            await running
        finally:
            # The caller closes the frames next, which is not possible while they are being read.
            running.cancel()
            await asyncio.wait({running})
        yield self._result()

    async def _run(self, frames: Frames) -> None:
        """Wait for the code's end while its text is read. The text's end is the cell's end."""
        driving = asyncio.ensure_future(self._limit.run(self._source, self._ended))
        reading = asyncio.ensure_future(self._read(frames))
        try:
            await asyncio.wait({driving, reading}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await reading
                if self._end.death is None:
                    await self._require_reply(driving)
            else:
                await driving
                await asyncio.wait({reading}, timeout=_TEXT_SEC)
                if not reading.done():
                    raise SupervisorFailed("the cell's stream did not end")
                await reading
        finally:
            driving.cancel()
            reading.cancel()
            await asyncio.gather(driving, reading, return_exceptions=True)
            self._source.outputs.finish_messages()
            self._events.put_nowait(None)

    async def _require_reply(self, driving: "asyncio.Future[None]") -> None:
        """Kill the kernel if its reply does not follow the end that the supervisor reported.

        User code can fake the end-of-cell record. The supervisor then stops enforcing limits.
        """
        done, _ = await asyncio.wait({driving}, timeout=_REPLY_SEC)
        if done:
            await driving
        else:
            await self._supervisor.kill_kernel()
            self._end = replace(self._end, death=Death(status=137))

    async def _read(self, frames: Frames) -> None:
        async for kind, payload in frames:
            if kind == contract.FRAME_END:
                self._end = CellEnd.parse(payload)
                self._ended.set()
            elif kind == contract.FRAME_EVENT:
                self._source.take_event(payload)
            elif kind in STREAMS:
                self._source.outputs.take_text(kind, payload)
            elif kind == contract.FRAME_MARK:
                self._source.outputs.take_mark(payload)
        self._source.outputs.finish_text(self._end, self._last_line())

    @property
    def imported(self) -> frozenset[str]:
        """The modules of `learnable.MODULES` that programs have imported, after the last event."""
        return verdict.imported(self._source.reply)

    def _last_line(self) -> str:
        """Return the line for stderr that names the limit or signal: some clients show nothing else."""
        if self._limit.timed_out or (self._end.death is None and not self._end.over_cpu_limit):
            return ""
        exit_code, error = self._verdict()
        return f"[{error.name}: {error.value}]\n" if error is not None and (exit_code or 0) > 128 else ""

    def _result(self) -> CellResult:
        exit_code, error = self._verdict()
        end, limit, source = self._end, self._limit, self._source
        displays = source.outputs.displays
        if source.lost_messages and end.death is None:
            displays.note_left_out()
        usage = Usage(end.memory_bytes, self._budget.memory_bytes, end.cpu_sec)
        notices = (
            "" if end.idle_stop is None else str(end.idle_stop),
            "" if end.death is not None else usage.warning(self._budget.memory_setting),
        )
        return CellResult(
            exit_code=exit_code,
            timed_out=limit.timed_out,
            duration_ms=round(limit.duration_sec * 1000),
            error=error,
            kernel_alive=end.death is None and not limit.killed,
            outputs=tuple(displays.outputs),
            order=displays.order,
            execution_count=whole_number(source.reply.get("execution_count")),
            changed=end.changed,
            skipped=end.skipped,
            truncated=tuple(source.outputs.truncated(end)),
            stdout_bytes=end.stdout_bytes,
            stderr_bytes=end.stderr_bytes,
            usage=usage,
            display_bytes=displays.held_bytes,
            gather_sec=max(0.0, time.monotonic() - limit.started - limit.duration_sec),
            supervisor_sec=end.wall_sec,
            kernel_sec=verdict.kernel_seconds(source.reply),
            reply=source.reply,
            notice=". ".join(text for text in notices if text),
            idle_stop=end.idle_stop,
            over_cpu_limit=end.over_cpu_limit,
        )

    def _verdict(self) -> tuple[int | None, CellError | None]:
        if self._limit.timed_out:
            return verdict.of_timeout(self._limit.timeout_sec)
        death = self._end.death
        if self._end.over_cpu_limit and not (death is not None and death.out_of_memory):
            return verdict.of_cpu_limit(self._budget)
        if death is not None:
            return verdict.of_death(death, self._budget)
        return verdict.of_reply(self._source.reply)
