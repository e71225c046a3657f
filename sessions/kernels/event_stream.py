"""One cell, from the request to its result: where the kernel's channels and the supervisor's stream meet.

Text comes from the supervisor (pipes), rich outputs and the verdict from the kernel (messages). The
cell is over when the kernel has replied and is idle, or when it is dead; by then the supervisor has
sent the rest of the text and what changed in the workspace, or is asked for it.

A cell that was begun before the service restarted is followed through the supervisor alone. The
supervisor has kept its text, and gets the kernel's own record when it ends
(`kernel_image.kernel.supervisor_pipes`). A shell command has no kernel: it ends with its process.
"""

import asyncio
import codecs
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from kernel_image import contract
from sessions.kernels import verdict
from sessions.kernels.cell_end import CellEnd, Death
from sessions.kernels.channel import ChannelBroken
from sessions.kernels.client import KernelClient, Message
from sessions.kernels.errors import SupervisorFailed
from sessions.kernels.marks import MarkFinder
from sessions.kernels.outputs import OutputFold, is_shown, whole_number
from sessions.kernels.plain_json import parse
from sessions.kernels.supervisor_client import Frames, SupervisorClient
from sessions.models import (
    Budget,
    Cell,
    CellError,
    CellEvent,
    CellResult,
    Display,
    InputRequest,
    JsonObject,
    KernelMessage,
    Mark,
    OutputChunk,
    Stream,
)

_INTERRUPT_GRACE_SEC: Final = 1.0
_IDLE_SEC: Final = 1.0
"""How long after the reply the kernel's `idle` may take; a program can lose or withhold it."""
_END_SEC: Final = 0.25
_REPLY_SEC: Final = 5.0
_SETTLE_SEC: Final = 30.0
_PROMPTS: Final = 1000
"""Questions of one cell that are passed on, and in all as many characters as follow."""
_PROMPT_CHARACTERS: Final = 1 << 18
_CHUNKS: Final = 20_000
"""Pieces of text that are passed on as they come; after that they are gathered to larger ones."""
_GATHERED_CHARACTERS: Final = 1 << 14
_STREAMS: Final[dict[int, Stream]] = {contract.FRAME_STDOUT: "stdout", contract.FRAME_STDERR: "stderr"}


class CellEventStream:
    """Follows one cell once. Use `of_cell`, `of_message`, `of_attached_cell` or `of_command`."""

    def __init__(
        self, supervisor: SupervisorClient, finder: MarkFinder, budget: Budget, timeout_sec: float
    ) -> None:
        """`finder` takes the marks of the container's kernel out of the text."""
        self._finder = finder
        self._supervisor = supervisor
        self._budget = budget
        self._timeout_sec = timeout_sec
        self._over: Callable[[], Awaitable[None]]
        """Returns when the code has ended by itself."""
        self._kill: Callable[[], Awaitable[None]] = supervisor.kill_kernel
        self._settles = True
        """Whether the supervisor has to be told that the cell is over; else it knows."""
        self._is_cell = True
        """Whether the kernel itself tells the supervisor that it is over, which else is told here."""
        self._is_deaf = False
        """Whether the kernel hung up: it has ended, or the code has cut its own voice off."""
        self._asks = False
        self._reads_record = False
        self._fold = OutputFold(budget.display_bytes)
        self._events: asyncio.Queue[CellEvent | None] = asyncio.Queue()
        self._decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in _STREAMS}
        self._received = dict.fromkeys(_STREAMS, 0)
        self._record: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()
        self._has_marks = False
        self._marks = 0
        self._chunks = 0
        self._gathered: dict[int, str] = dict.fromkeys(_STREAMS, "")
        self._prompts = 0
        self._prompt_characters = 0
        self._reply: JsonObject = {}
        self._end: CellEnd
        self._ended = asyncio.Event()
        self._timed_out = False
        self._killed = False
        """Whether the kernel was killed, also where it was dead already and could not tell."""
        self._started = time.monotonic()
        self._duration = 0.0

    @classmethod
    def of_cell(
        cls, supervisor: SupervisorClient, kernel: KernelClient, cell: Cell, budget: Budget
    ) -> "CellEventStream":
        """A cell that the kernel is now asked to run, once its supervisor knows of it."""
        self = cls(supervisor, kernel.mark_finder(), budget, cell.timeout_sec)
        self._has_marks = cell.asked is not None
        request_id = kernel.request(cell)
        self._over = lambda: self._run_in_kernel(kernel, request_id)
        self._asks = cell.allow_stdin
        return self

    @classmethod
    def of_message(
        cls,
        supervisor: SupervisorClient,
        kernel: KernelClient,
        message: KernelMessage,
        budget: Budget,
        timeout_sec: float,
    ) -> "CellEventStream":
        """A message that makes the kernel run code but is no cell, such as a widget's; it has no reply."""
        self = cls(supervisor, kernel.mark_finder(), budget, timeout_sec)
        self._over = lambda: self._handled(kernel, message)
        self._is_cell = False
        self._has_marks = True
        return self

    @classmethod
    def of_attached_cell(
        cls, supervisor: SupervisorClient, finder: MarkFinder, budget: Budget, timeout_sec: float
    ) -> "CellEventStream":
        """A cell that runs already, or has ended unseen; `timeout_sec` is what is left of its time."""
        self = cls(supervisor, finder, budget, timeout_sec)
        self._over = self._read_record
        self._asks = self._reads_record = True
        return self

    @classmethod
    def of_command(
        cls, supervisor: SupervisorClient, finder: MarkFinder, budget: Budget, timeout_sec: float
    ) -> "CellEventStream":
        """A shell command that was begun with the frames."""
        self = cls(supervisor, finder, budget, timeout_sec)
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
                if self._end.death is None:
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
            self._end = replace(self._end, death=Death(status=137))

    # --- the code ---------------------------------------------------------------------------------

    async def _drive(self) -> None:
        """Wait for the code's end, stop it at the timeout, then settle."""
        self._started = started = time.monotonic()
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
            async with asyncio.timeout(_END_SEC if self._is_cell else 0):
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
            try:
                async with asyncio.timeout(_IDLE_SEC):
                    await idle.wait()
            except TimeoutError:
                self._leave_out()
        finally:
            publishing.cancel()

    async def _handled(self, kernel: KernelClient, message: KernelMessage) -> None:
        """Have the kernel handle it. What it shows is not kept: whoever sent it follows the kernel."""
        kernel.tell(message)
        try:
            async for published in kernel.outputs(message.message_id):
                if published.is_idle:
                    return
        except ChannelBroken:
            self._is_deaf = True
        await asyncio.sleep(float("inf"))

    async def _publish(self, kernel: KernelClient, request_id: str, idle: asyncio.Event) -> None:
        """Read on after `idle`, which the code can say itself: what is not read here piles up."""
        try:
            async for message in kernel.outputs(request_id):
                if message.is_idle:
                    idle.set()
                self._take(message)
        except ChannelBroken:
            self._is_deaf = True
        else:
            self._leave_out()

    def _take(self, message: Message) -> None:
        if not message.too_large:
            self._show(message.kind, message.content, message.weight)
        elif not message.kind or is_shown(message.kind):
            self._leave_out()

    def _show(self, kind: str, content: JsonObject, weight: int) -> None:
        shown = self._fold.add(kind, content, weight)
        if shown is not None:
            self._events.put_nowait(Display(shown.output, shown.display_id, shown.replaces))

    def _leave_out(self) -> None:
        """What was shown is not all here: say so."""
        shown = self._fold.leave_out()
        if shown is not None:
            self._events.put_nowait(Display(shown.output))

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
                self._end = CellEnd.parse(payload)
                self._ended.set()
            elif kind == contract.FRAME_EVENT:
                self._hear(payload)
            elif kind in _STREAMS:
                self._received[kind] += len(payload)
                if self._received[kind] > self._budget.output_bytes:
                    raise SupervisorFailed("more text than it was told to pass on")
                self._take_text(kind, payload)
        stdout = contract.FRAME_STDOUT
        self._emit_text(stdout, self._decoders[stdout].decode(self._finder.rest()))
        for kind in _STREAMS:
            if self._is_cut(kind):
                limit = self._budget.output_bytes
                self._emit_text(kind, f"\n...[truncated: MAX_OUTPUT_BYTES={limit}]\n")
            else:
                self._emit_text(kind, self._decoders[kind].decode(b"", final=True))
        self._tell_of_death()
        self._emit_gathered()

    def _take_text(self, kind: int, payload: bytes) -> None:
        """Pass on text; where it has marks, what they say in place of them."""
        if kind != contract.FRAME_STDOUT:
            self._emit_text(kind, self._decoders[kind].decode(payload))
            return
        for piece in self._finder.feed(payload):
            if isinstance(piece, bytes):
                self._emit_text(kind, self._decoders[kind].decode(piece))
            elif self._has_marks and self._marks < _CHUNKS:
                self._marks += 1
                self._emit_gathered()
                self._events.put_nowait(Mark(piece))

    def _hear(self, payload: bytes) -> None:
        """What the kernel says of the cell; the user's code can say it too, so nothing is believed."""
        is_record = payload.startswith(contract.RECORD_PREFIX)
        if not (self._reads_record if is_record else self._asks):
            return
        try:
            entry: Any = parse(payload).value
        except (ValueError, RecursionError):
            entry = {}
        if is_record and not self._record.done():
            self._record.set_result(entry)
        match entry:
            case {"type": "input_request", "prompt": str(prompt), "password": bool(password)}:
                self._ask(prompt, password)

    def _ask(self, prompt: str, password: bool) -> None:
        self._prompts += 1
        self._prompt_characters += len(prompt)
        if self._prompts <= _PROMPTS and self._prompt_characters <= _PROMPT_CHARACTERS:
            self._events.put_nowait(InputRequest(prompt, password))

    def _tell_of_death(self) -> None:
        """Say on stderr too what ended the process from outside: some clients read nothing else."""
        if self._end.death is not None and not self._timed_out:
            exit_code, error = verdict.of_death(self._end.death, self._budget)
            if error is not None and exit_code > 128:
                self._emit_text(contract.FRAME_STDERR, f"[{error.name}: {error.value}]\n")

    def _is_cut(self, kind: int) -> bool:
        return self._end.written(_STREAMS[kind]) > self._received[kind]

    def _emit_text(self, kind: int, text: str) -> None:
        """Pass on text; of a program that writes letter by letter, some hundred letters at a time."""
        if not text:
            return
        if self._chunks < _CHUNKS:
            self._chunks += 1
            self._events.put_nowait(OutputChunk(_STREAMS[kind], text))
            return
        self._gathered[kind] += text
        if len(self._gathered[kind]) >= _GATHERED_CHARACTERS:
            self._emit_gathered()

    def _emit_gathered(self) -> None:
        for kind, text in self._gathered.items():
            if text:
                self._events.put_nowait(OutputChunk(_STREAMS[kind], text))
                self._gathered[kind] = ""

    # --- the result -------------------------------------------------------------------------------

    def _result(self) -> CellResult:
        exit_code, error = self._verdict()
        if self._is_deaf and self._end.death is None:
            self._fold.leave_out()
        truncated: list[str] = [stream for kind, stream in _STREAMS.items() if self._is_cut(kind)]
        if self._fold.truncated:
            truncated.append("outputs")
        return CellResult(
            exit_code=exit_code,
            timed_out=self._timed_out,
            duration_ms=round(self._duration * 1000),
            error=error,
            kernel_alive=self._end.death is None and not self._killed,
            outputs=tuple(self._fold.outputs),
            execution_count=whole_number(self._reply.get("execution_count")),
            changed=self._end.changed,
            skipped=self._end.skipped,
            truncated=tuple(truncated),
            stdout_bytes=self._end.stdout_bytes,
            stderr_bytes=self._end.stderr_bytes,
            cpu_sec=self._end.cpu_sec,
            display_bytes=self._fold.held_bytes,
            gather_sec=max(0.0, time.monotonic() - self._started - self._duration),
            supervisor_sec=self._end.wall_sec,
            kernel_sec=verdict.kernel_seconds(self._reply),
            reply=self._reply,
        )

    def _verdict(self) -> tuple[int | None, CellError | None]:
        if self._timed_out:
            return verdict.of_timeout(self._timeout_sec)
        if self._end.death is not None:
            return verdict.of_death(self._end.death, self._budget)
        return verdict.of_reply(self._reply)
