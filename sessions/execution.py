"""One cell, from the request to its result: where the kernel's channels and the supervisor's stream meet.

Text comes from the supervisor (pipes), rich outputs and the verdict from the kernel (messages). The
cell is over when the kernel has replied and is idle, or when it is dead; then the supervisor is
asked for the rest of the text and for what changed in the workspace.
"""

import asyncio
import codecs
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

from kernel_image import contract
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
    JsonObject,
    OutputChunk,
    SkippedFile,
    Stream,
)
from sessions.outputs import OutputFold, clean_text
from sessions.supervisor_client import SupervisorClient

_INTERRUPT_GRACE_SEC: Final = 1.0
_IDLE_SEC: Final = 1.0
"""How long after the reply the kernel's `idle` may take; a program can lose or withhold it."""
_SETTLE_SEC: Final = 30.0
_TEXT_LIMIT: Final = 65536
"""Characters of an error's value, and of its traceback."""
_STREAMS: Final[dict[int, Stream]] = {
    contract.FRAME_STDOUT: "stdout",
    contract.FRAME_STDERR: "stderr",
}


class Execution:
    """Runs one cell once."""

    def __init__(
        self, supervisor: SupervisorClient, kernel: KernelClient, cell: Cell, budget: Budget
    ) -> None:
        self._supervisor = supervisor
        self._kernel = kernel
        self._cell = cell
        self._budget = budget
        self._fold = OutputFold(budget.display_bytes)
        self._events: asyncio.Queue[CellEvent | None] = asyncio.Queue()
        self._decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in _STREAMS}
        self._received = dict.fromkeys(_STREAMS, 0)
        self._reply: JsonObject | None = None
        self._end: JsonObject = {}
        self._timed_out = False
        self._duration = 0.0

    async def events(self, frames: AsyncIterator[tuple[int, bytes]]) -> AsyncGenerator[CellEvent]:
        """Have the kernel run the code: output as it comes, then the result.

        Args:
            frames: what `SupervisorClient.begin_cell` gave.

        Raises:
            SupervisorFailed: the container is lost. Closing the iterator early abandons the cell.
        """
        running = asyncio.ensure_future(self._run(frames))
        try:
            while (event := await self._events.get()) is not None:
                yield event
            await running
        finally:
            running.cancel()
        yield self._result()

    async def _run(self, frames: AsyncIterator[tuple[int, bytes]]) -> None:
        """Drive the kernel while its text is read; the text's end is the cell's end."""
        driving = asyncio.ensure_future(self._drive())
        reading = asyncio.ensure_future(self._read(frames))
        try:
            await asyncio.wait({driving, reading}, return_when=asyncio.FIRST_COMPLETED)
            if driving.done():
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

    async def _read(self, frames: AsyncIterator[tuple[int, bytes]]) -> None:
        async for kind, payload in frames:
            if kind == contract.FRAME_END:
                self._end = json.loads(payload)
            elif kind in _STREAMS:
                self._received[kind] += len(payload)
                self._emit_text(kind, self._decoders[kind].decode(payload))
        for kind in _STREAMS:
            if self._is_cut(kind):
                limit = self._budget.output_bytes
                self._emit_text(kind, f"\n...[truncated: MAX_OUTPUT_BYTES={limit}]\n")
            else:
                self._emit_text(kind, self._decoders[kind].decode(b"", final=True))
        if self._end["exit"] is not None and not self._timed_out:
            self._tell_of_death()

    def _tell_of_death(self) -> None:
        """Say on stderr too what ended the process from outside: some clients read nothing else."""
        exit_code, error = _verdict_of_death(self._end["exit"], self._budget)
        if error is not None and exit_code > 128:
            self._emit_text(contract.FRAME_STDERR, f"[{error.name}: {error.value}]\n")

    def _is_cut(self, kind: int) -> bool:
        return int(self._end[f"{_STREAMS[kind]}_bytes"]) > self._received[kind]

    def _emit_text(self, kind: int, text: str) -> None:
        if text:
            self._events.put_nowait(OutputChunk(_STREAMS[kind], text))

    async def _drive(self) -> None:
        """Have the kernel execute the cell, stop it at the timeout, then settle."""
        started = time.monotonic()
        options: JsonObject = {
            "last_line_interactive": self._cell.last_line_interactive,
            "final": self._cell.final,
        }
        if self._cell.stdin is not None:
            options["stdin"] = self._cell.stdin
        request_id = self._kernel.request(self._cell.code, options, store_history=self._cell.counted)
        finished = asyncio.ensure_future(self._finished(request_id))
        try:
            done, _ = await asyncio.wait({finished}, timeout=self._cell.timeout_sec)
            self._duration = time.monotonic() - started
            if not done:
                self._timed_out = True
                await self._stop(finished)
            await self._supervisor.settle()
        finally:
            finished.cancel()
            self._duration = self._duration or time.monotonic() - started

    async def _finished(self, request_id: str) -> None:
        """Wait for the reply and for all that was published before it."""
        publishing = asyncio.ensure_future(self._publish(request_id))
        try:
            self._reply = await self._kernel.reply(request_id)
            await asyncio.wait({publishing}, timeout=_IDLE_SEC)
        finally:
            publishing.cancel()

    async def _publish(self, request_id: str) -> None:
        async for message in self._kernel.outputs(request_id):
            shown = self._fold.add(message.kind, message.content, message.size_bytes)
            if shown is not None:
                self._events.put_nowait(Display(shown.output, shown.display_id, shown.replaces))

    async def _stop(self, finished: "asyncio.Future[None]") -> None:
        """Interrupt; kill what does not heed it. The kernel's death ends the frames."""
        await self._supervisor.interrupt_kernel()
        done, _ = await asyncio.wait({finished}, timeout=_INTERRUPT_GRACE_SEC)
        if not done:
            await self._supervisor.kill_kernel()

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
            kernel_alive=self._end["exit"] is None,
            outputs=tuple(self._fold.outputs),
            changed=tuple(ChangedFile(item["path"], item["size_bytes"]) for item in self._end["changed"]),
            skipped=self._skipped(),
            truncated=tuple(truncated),
            stdout_bytes=int(self._end["stdout_bytes"]),
            stderr_bytes=int(self._end["stderr_bytes"]),
            cpu_sec=float(self._end["cpu_seconds"]),
        )

    def _skipped(self) -> tuple[SkippedFile, ...]:
        skipped = [
            SkippedFile(item["path"], item["size_bytes"], item["reason"]) for item in self._end["skipped"]
        ]
        if self._end["left_out"]:
            skipped.append(SkippedFile("...", 0, f"{self._end['left_out']} more files are not even listed"))
        return tuple(skipped)

    def _verdict(self) -> tuple[int | None, CellError | None]:
        """Exit code and error: what stopped the cell comes before what the code says of itself."""
        death = self._end["exit"]
        if self._timed_out:
            return None, CellError(
                "TimeoutExceeded", f"stopped after timeout_ms={self._cell.timeout_sec * 1000:.0f}"
            )
        if death is not None:
            return _verdict_of_death(death, self._budget)
        reply = self._reply or {}
        exit_code = _exit_code_of(reply)
        if exit_code == 0 or reply.get("status") == "ok":
            return exit_code, None
        return exit_code, CellError(
            name=_text(reply.get("ename")),
            value=_text(reply.get("evalue")),
            traceback=tuple(_text(line) for line in _list(reply.get("traceback"))),
        )


def _verdict_of_death(death: JsonObject, budget: Budget) -> tuple[int, CellError | None]:
    status = int(death["status"])
    if death["out_of_memory"]:
        return status, CellError(
            "MemoryLimitExceeded", "the code needed more memory than MEMORY_LIMIT_MB allows"
        )
    if death["over_cpu_limit"]:
        limit = f"the code used more CPU time than CPU_TIME_LIMIT_SEC={budget.cpu_sec:g} allows"
        return 152, CellError("CpuTimeLimitExceeded", limit)
    if status > 128:
        return status, CellError("KernelDied", f"the process was ended by signal {status - 128}")
    if status:
        return status, CellError("KernelDied", f"the process ended itself with status {status}")
    return status, None


def _exit_code_of(reply: JsonObject) -> int:
    """What our kernel says; a reply that lacks it was forged or cut, and counts as failure."""
    options: Any = reply.get(contract.CELL_METADATA)
    code = options.get("exit_code") if isinstance(options, dict) else None
    return code & 0xFF if isinstance(code, int) else 1


def _list(value: object) -> list[object]:
    return value[:1000] if isinstance(value, list) else []


def _text(value: object) -> str:
    return clean_text(value[:_TEXT_LIMIT]) if isinstance(value, str) else ""
