"""One cell, from the request to its result: where the kernel's channels and the supervisor's stream meet.

Text comes from the supervisor (pipes), rich outputs and the verdict from the kernel (messages). The
cell is over when the kernel has replied and is idle, or when it is dead; by then the supervisor has
sent the rest of the text and what changed in the workspace, or is asked for it.

A cell that was begun by an earlier life of the service is followed through the supervisor alone,
which has kept its text and gets the kernel's own record at the end (`kernel_image.journal`). A shell
command has no kernel: it is over when its process is.
"""

import asyncio
import codecs
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final

from kernel_image import contract
from sessions import verdict
from sessions.errors import SupervisorFailed
from sessions.kernel import KernelClient
from sessions.models import (
    Budget,
    Cell,
    CellError,
    CellEvent,
    CellResult,
    ChangedFile,
    Display,
    InputRequest,
    JsonObject,
    OutputChunk,
    SkippedFile,
    Stream,
)
from sessions.outputs import OutputFold, clean_text
from sessions.supervisor_client import Frames, SupervisorClient

_INTERRUPT_GRACE_SEC: Final = 1.0
_IDLE_SEC: Final = 1.0
"""How long after the reply the kernel's `idle` may take; a program can lose or withhold it."""
_END_SEC: Final = 0.25
_REPLY_SEC: Final = 5.0
_SETTLE_SEC: Final = 30.0
_STREAMS: Final[dict[int, Stream]] = {contract.FRAME_STDOUT: "stdout", contract.FRAME_STDERR: "stderr"}


class Execution:
    """Follows one cell once. Use `of_cell`, `of_attached_cell` or `of_command`."""

    def __init__(self, supervisor: SupervisorClient, budget: Budget, timeout_sec: float) -> None:
        self._supervisor = supervisor
        self._budget = budget
        self._timeout_sec = timeout_sec
        self._over: Callable[[], Awaitable[None]]
        """Returns when the code has ended by itself."""
        self._kill: Callable[[], Awaitable[None]] = supervisor.kill_kernel
        self._settles = True
        """Whether the supervisor has to be told that the cell is over; else it knows."""
        self._asks = False
        self._fold = OutputFold(budget.display_bytes)
        self._events: asyncio.Queue[CellEvent | None] = asyncio.Queue()
        self._decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in _STREAMS}
        self._received = dict.fromkeys(_STREAMS, 0)
        self._record: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()
        self._reply: JsonObject = {}
        self._end: JsonObject = {}
        self._ended = asyncio.Event()
        self._timed_out = False
        self._killed = False
        """Whether the kernel was killed, also where it was dead already and could not tell."""
        self._duration = 0.0

    @classmethod
    def of_cell(
        cls, supervisor: SupervisorClient, kernel: KernelClient, cell: Cell, budget: Budget
    ) -> "Execution":
        """A cell that the kernel is now asked to run, once its supervisor knows of it."""
        self = cls(supervisor, budget, cell.timeout_sec)
        request_id = kernel.request(cell)
        self._over = lambda: self._run_in_kernel(kernel, request_id)
        self._asks = cell.allow_stdin
        return self

    @classmethod
    def of_attached_cell(
        cls, supervisor: SupervisorClient, budget: Budget, timeout_sec: float
    ) -> "Execution":
        """A cell that runs already, or has ended unseen; `timeout_sec` is what is left of its time."""
        self = cls(supervisor, budget, timeout_sec)
        self._over = self._read_record
        self._asks = True
        return self

    @classmethod
    def of_command(cls, supervisor: SupervisorClient, budget: Budget, timeout_sec: float) -> "Execution":
        """A shell command that was begun with the frames."""
        self = cls(supervisor, budget, timeout_sec)
        self._over = lambda: asyncio.sleep(float("inf"))
        self._kill = lambda: supervisor.interrupt(kill=True)
        self._settles = False
        return self

    async def events(self, frames: Frames) -> AsyncGenerator[CellEvent]:
        """Have the code run: output as it comes, then the result.

        Args:
            frames: what the supervisor gave for the cell.

        Raises:
            SupervisorFailed: the container is lost. Closing the iterator early abandons the cell.
        """
        running = asyncio.ensure_future(self._run(frames))
        try:
            while (event := await self._events.get()) is not None:
                yield event
            await running
        finally:
            # Whoever reads the frames has to let go of them first.
            running.cancel()
            await asyncio.wait({running})
        yield self._result()

    async def _run(self, frames: Frames) -> None:
        """Drive the cell while its text is read; the text's end is the cell's end."""
        driving = asyncio.ensure_future(self._drive())
        reading = asyncio.ensure_future(self._read(frames))
        try:
            await asyncio.wait({driving, reading}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await reading
                if self._end["exit"] is None:
                    await self._reply_has_to_follow(driving)
            else:
                await driving
                await asyncio.wait({reading}, timeout=_SETTLE_SEC)
                if not reading.done():
                    raise SupervisorFailed("the cell's stream did not end")
                await reading
        finally:
            driving.cancel()
            reading.cancel()
            await asyncio.gather(driving, reading, return_exceptions=True)
            self._events.put_nowait(None)

    async def _reply_has_to_follow(self, driving: "asyncio.Future[None]") -> None:
        """A program can feign its end to its supervisor, whose limits then end too: so that is its end."""
        done, _ = await asyncio.wait({driving}, timeout=_REPLY_SEC)
        if done:
            await driving
        else:
            await self._supervisor.kill_kernel()
            self._end["exit"] = {"status": 137, "out_of_memory": False, "over_cpu_limit": False}

    # --- the code ---------------------------------------------------------------------------------

    async def _drive(self) -> None:
        """Wait for the code's end, stop it at the timeout, then settle."""
        started = time.monotonic()
        over = asyncio.ensure_future(self._over())
        try:
            done, _ = await asyncio.wait({over}, timeout=self._timeout_sec)
            self._duration = time.monotonic() - started
            if done:
                await over
            else:
                self._timed_out = True
                # A timer may be a fraction of a millisecond early.
                self._duration = max(self._duration, self._timeout_sec)
                await self._stop(over)
            if self._settles:
                await self._make_sure_of_end()
        finally:
            over.cancel()
            self._duration = self._duration or time.monotonic() - started

    async def _make_sure_of_end(self) -> None:
        """The kernel ends the cell itself, unless the program has taken its journal away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SEC):
                await self._ended.wait()
        if not self._ended.is_set():
            await self._supervisor.settle()

    async def _stop(self, over: "asyncio.Future[None]") -> None:
        """Interrupt; kill what does not heed it. The process's death ends the frames."""
        await self._supervisor.interrupt()
        done, _ = await asyncio.wait({over}, timeout=_INTERRUPT_GRACE_SEC)
        if not done:
            self._killed = True
            await self._kill()

    async def _run_in_kernel(self, kernel: KernelClient, request_id: str) -> None:
        """Wait for the reply and for all that was published before it."""
        idle = asyncio.Event()
        publishing = asyncio.ensure_future(self._publish(kernel, request_id, idle))
        try:
            self._reply = await kernel.reply(request_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_IDLE_SEC):
                    await idle.wait()
        finally:
            publishing.cancel()

    async def _publish(self, kernel: KernelClient, request_id: str, idle: asyncio.Event) -> None:
        """Read on after `idle`, which the code can say itself: what is not read here piles up."""
        async for message in kernel.outputs(request_id):
            if message.is_idle:
                idle.set()
            self._show(message.kind, message.content, message.size_bytes)

    def _show(self, kind: str, content: JsonObject, size_bytes: int) -> None:
        shown = self._fold.add(kind, content, size_bytes)
        if shown is not None:
            self._events.put_nowait(Display(shown.output, shown.display_id, shown.replaces))

    async def _read_record(self) -> None:
        """Take what the kernel kept of a cell, in place of the messages nobody heard."""
        record = await self._record
        outputs = record.get("outputs")
        for entry in outputs if isinstance(outputs, list) else ():
            match entry:
                case [str(kind), dict(content)]:
                    self._show(kind, content, len(str(content)))
        reply = record.get("reply")
        self._reply = reply if isinstance(reply, dict) else {}

    # --- the text ---------------------------------------------------------------------------------

    async def _read(self, frames: Frames) -> None:
        async for kind, payload in frames:
            if kind == contract.FRAME_END:
                self._end = json.loads(payload)
                self._ended.set()
            elif kind == contract.FRAME_EVENT:
                self._hear(payload)
            elif kind in _STREAMS:
                self._received[kind] += len(payload)
                self._emit_text(kind, self._decoders[kind].decode(payload))
        for kind in _STREAMS:
            if self._is_cut(kind):
                limit = self._budget.output_bytes
                self._emit_text(kind, f"\n...[truncated: MAX_OUTPUT_BYTES={limit}]\n")
            else:
                self._emit_text(kind, self._decoders[kind].decode(b"", final=True))
        self._tell_of_death()

    def _hear(self, payload: bytes) -> None:
        """What the kernel says of the cell; the user's code can say it too, so nothing is believed."""
        try:
            entry: Any = json.loads(payload)
        except (ValueError, RecursionError):
            return
        match entry:
            case {"type": "input_request", "prompt": str(prompt), "password": bool(password)}:
                if self._asks:
                    self._events.put_nowait(InputRequest(clean_text(prompt), password))
            case {"type": "record"} if not self._record.done():
                self._record.set_result(entry)

    def _tell_of_death(self) -> None:
        """Say on stderr too what ended the process from outside: some clients read nothing else."""
        if self._end["exit"] is not None and not self._timed_out:
            exit_code, error = verdict.of_death(self._end["exit"], self._budget)
            if error is not None and exit_code > 128:
                self._emit_text(contract.FRAME_STDERR, f"[{error.name}: {error.value}]\n")

    def _is_cut(self, kind: int) -> bool:
        return int(self._end[f"{_STREAMS[kind]}_bytes"]) > self._received[kind]

    def _emit_text(self, kind: int, text: str) -> None:
        if text:
            self._events.put_nowait(OutputChunk(_STREAMS[kind], text))

    # --- the result -------------------------------------------------------------------------------

    def _result(self) -> CellResult:
        exit_code, error = self._verdict()
        truncated: list[str] = [stream for kind, stream in _STREAMS.items() if self._is_cut(kind)]
        if self._fold.truncated:
            truncated.append("outputs")
        return CellResult(
            exit_code=exit_code,
            timed_out=self._timed_out,
            duration_ms=round(self._duration * 1000),
            error=error,
            kernel_alive=self._end["exit"] is None and not self._killed,
            outputs=tuple(self._fold.outputs),
            execution_count=verdict.execution_count(self._reply),
            changed=tuple(ChangedFile(item["path"], item["size_bytes"]) for item in self._end["changed"]),
            skipped=self._skipped(),
            truncated=tuple(truncated),
            stdout_bytes=int(self._end["stdout_bytes"]),
            stderr_bytes=int(self._end["stderr_bytes"]),
            cpu_sec=float(self._end["cpu_seconds"]),
        )

    def _verdict(self) -> tuple[int | None, CellError | None]:
        if self._timed_out:
            return verdict.of_timeout(self._timeout_sec)
        if self._end["exit"] is not None:
            return verdict.of_death(self._end["exit"], self._budget)
        return verdict.of_reply(self._reply)

    def _skipped(self) -> tuple[SkippedFile, ...]:
        skipped = [
            SkippedFile(item["path"], item["size_bytes"], item["reason"]) for item in self._end["skipped"]
        ]
        if self._end["left_out"]:
            skipped.append(SkippedFile("...", 0, f"{self._end['left_out']} more files are not even listed"))
        return tuple(skipped)
