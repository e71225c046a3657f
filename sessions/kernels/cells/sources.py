"""The code behind a stream of cell events: one class for each way in which code is run.

User code can forge everything that a source learns from the kernel. Nothing of it is trusted.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from kernel_image import contract
from sessions.kernels.cells.outputs import CellOutputs
from sessions.kernels.channel import ChannelBroken
from sessions.kernels.client import KernelClient
from sessions.kernels.messages import Message
from sessions.kernels.plain_json import parse
from sessions.kernels.supervisor_client import SupervisorClient
from sessions.models import Budget, Cell, CellEvent, InputRequest, JsonObject, PackedMessage

Emit = Callable[[CellEvent], None]

_IDLE_SEC: Final = 1.0
"""Time for the kernel's `idle` after its reply. User code can lose or withhold it."""
_END_SEC: Final = 0.25
"""Time in which a kernel that has replied ends the cell itself."""
_MOST_PROMPTS: Final = 1000
_PROMPT_CHARACTERS: Final = 1 << 18
"""Limit for all prompts of a cell together."""


class Source(ABC):
    """Code that runs in a container: how it ends, what it shows, what it asks.

    Attributes:
        outputs: what it shows, text included.
        reply: the content of the kernel's reply; empty if there is none.
        lost_messages: whether the connection to the kernel broke. The process has ended, or user code has
            closed the connection.
    """

    _end_sec = _END_SEC

    def __init__(
        self, supervisor: SupervisorClient, budget: Budget, emit: Emit, *, passes_marks: bool = False
    ) -> None:
        """`passes_marks`: whether the marks in the text become events."""
        self.outputs = CellOutputs(emit, budget, passes_marks=passes_marks)
        self.reply: JsonObject = {}
        self.lost_messages = False
        self._supervisor = supervisor

    @abstractmethod
    async def wait_until_over(self) -> None:
        """Return when the code has ended by itself. Called once."""

    def take_event(self, payload: bytes) -> None:  # noqa: B027
        """Take an event that the kernel reports through the supervisor. By default, ignore it."""

    async def kill(self) -> None:
        """Kill the code."""
        await self._supervisor.kill_kernel()

    async def end_cell(self, ended: asyncio.Event) -> None:
        """Have the supervisor end the cell, unless the kernel ends it. `ended` is set at the cell's end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._end_sec):
                await ended.wait()
        if not ended.is_set():
            await self._supervisor.end_cell()


class KernelCell(Source):
    """A cell in a live kernel."""

    def __init__(
        self, supervisor: SupervisorClient, budget: Budget, emit: Emit, kernel: KernelClient, cell: Cell
    ) -> None:
        """Send the request to run `cell`."""
        super().__init__(supervisor, budget, emit, passes_marks=cell.asked is not None)
        self._allows_stdin = cell.allow_stdin
        self._input_requests = _InputRequests(emit)
        self._kernel = kernel
        self._request_id = kernel.request(cell)

    async def wait_until_over(self) -> None:
        """Wait for the reply and for everything that was published before it."""
        idle = asyncio.Event()
        publishing = asyncio.ensure_future(self._read_published(idle))
        try:
            self.reply = await self._kernel.reply(self._request_id)
            try:
                async with asyncio.timeout(_IDLE_SEC):
                    await idle.wait()
            except TimeoutError:
                self.outputs.displays.note_left_out()
        finally:
            publishing.cancel()
            self.outputs.finish_messages()

    async def _read_published(self, idle: asyncio.Event) -> None:
        """Read published messages, also after `idle`: user code can forge it, and unread messages pile up."""
        try:
            async for message in self._kernel.outputs(self._request_id):
                if message.is_idle:
                    idle.set()
                self.outputs.take_message(message)
        except ChannelBroken:
            self.lost_messages = True
        else:
            self.outputs.displays.note_left_out()
        self.outputs.finish_messages()

    def take_event(self, payload: bytes) -> None:
        """Pass on a request for input."""
        if self._allows_stdin and not payload.startswith(contract.RECORD_PREFIX):
            self._input_requests.take(_parse_event(payload))


class MessageHandling(Source):
    """The handling of a message that makes the kernel run code, has no reply, and is no cell."""

    _end_sec = 0.0

    def __init__(
        self,
        supervisor: SupervisorClient,
        budget: Budget,
        emit: Emit,
        kernel: KernelClient,
        message: PackedMessage,
    ) -> None:
        super().__init__(supervisor, budget, emit, passes_marks=True)
        # Other readers get the messages.
        self.outputs.finish_messages()
        self._kernel = kernel
        self._message = message

    async def wait_until_over(self) -> None:
        """Send the message, and wait until the kernel is idle. Its displays are left to other readers."""
        self._kernel.send(self._message)
        try:
            async for published in self._kernel.outputs(self._message.message_id):
                if published.is_idle:
                    return
        except ChannelBroken:
            self.lost_messages = True
        await asyncio.sleep(float("inf"))


class AttachedCell(Source):
    """A cell that was begun before the service was restarted, and runs or has ended.

    Its messages are lost. The kernel keeps a record of them (`kernel_image.kernel.supervisor_pipes`). The
    supervisor sends the record at the cell's end.
    """

    def __init__(self, supervisor: SupervisorClient, budget: Budget, emit: Emit) -> None:
        super().__init__(supervisor, budget, emit)
        self._input_requests = _InputRequests(emit)
        self._record: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()

    async def wait_until_over(self) -> None:
        """Wait for the kernel's record, and take displays and reply from it."""
        record = await self._record
        outputs = record.get("outputs")
        for entry in outputs if isinstance(outputs, list) else ():
            match entry:
                case [str(kind), dict(content), str(message_id)]:
                    message = Message(kind, content, len(str(content)), message_id=message_id)
                    self.outputs.take_message(message)
        self.outputs.finish_messages()
        reply = record.get("reply")
        self.reply = reply if isinstance(reply, dict) else {}

    def take_event(self, payload: bytes) -> None:
        """Take the kernel's record, or pass on a request for input."""
        event = _parse_event(payload)
        if not payload.startswith(contract.RECORD_PREFIX):
            self._input_requests.take(event)
        elif not self._record.done():
            self._record.set_result(event)


class ShellCommand(Source):
    """A shell command. It has no kernel, and is over when its process is."""

    async def wait_until_over(self) -> None:
        """Wait forever: the supervisor ends the stream of text when the process has ended."""
        await asyncio.sleep(float("inf"))

    async def kill(self) -> None:
        """Kill the command, not the kernel."""
        await self._supervisor.interrupt(kill=True)

    async def end_cell(self, ended: asyncio.Event) -> None:
        """Do nothing: the supervisor ends the cell with the process."""


class _InputRequests:
    """Passes on the code's requests for input, up to a bound."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._count = 0
        self._characters = 0

    def take(self, event: JsonObject) -> None:
        match event:
            case {"type": "input_request", "prompt": str(prompt), "password": bool(password)}:
                self._count += 1
                self._characters += len(prompt)
                if self._count <= _MOST_PROMPTS and self._characters <= _PROMPT_CHARACTERS:
                    self._emit(InputRequest(prompt, password))


def _parse_event(payload: bytes) -> JsonObject:
    """Return the event, or an empty one if it is invalid."""
    try:
        event: Any = parse(payload).value
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}
