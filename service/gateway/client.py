"""One client of a hub: its requests, one after the other, and what it is to get.

A client outlives its socket for a while, as the buffer of Jupyter's own server does.
"""

import asyncio
import logging
import time
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from service.gateway import replies
from service.gateway.outbox import Outbox
from service.gateway.running import Running
from service.gateway.wire import pack
from service.routes.schemas.execute import ExecuteResult
from sessions.errors import CallFailed, SessionsError, log_text
from sessions.models import Cell, InputRequest, JsonObject, KernelMessage, Mark, OutputChunk
from sessions.running_cell import RunningCell
from sessions.tasks import settle

if TYPE_CHECKING:
    from service.gateway.hub import Hub

log = logging.getLogger(__name__)

_QUESTIONS: Final = frozenset(
    {"kernel_info_request", "complete_request", "inspect_request", "is_complete_request"}
    | {"history_request", "comm_info_request"}
)
_COMMS: Final = frozenset({"comm_open", "comm_msg", "comm_close"})
_WAITING: Final = 1000
_WAITING_BYTES: Final = 1 << 24
"""Requests that may wait for their turn, and their bytes."""
_PUBLISHED_SEC: Final = 10.0
"""How long after a cell's end what it has shown may take to come."""


class Client:
    """`receive` takes its messages, `outbox` has those for it."""

    def __init__(self, hub: "Hub") -> None:
        self.outbox = Outbox(hub.text_message)
        self.left_at = 0.0
        self.socket = 0
        """Counts its sockets: the last is its own."""
        self.is_here = False
        self.replaced = asyncio.Event()
        """Set when another socket has come in place of the last."""
        self._hub = hub
        self._waiting: deque[tuple[KernelMessage, int]] = deque()
        self._waiting_bytes = 0
        self._urgent: deque[KernelMessage] = deque(maxlen=100)
        self._asked = asyncio.Event()
        self._asked_urgently = asyncio.Event()
        self._tasks = [asyncio.create_task(work) for work in (self._serve(), self._serve_urgent())]

    # --- its socket -------------------------------------------------------------------------------

    def come(self) -> None:
        """A socket is open, in place of any other."""
        self.replaced.set()
        self.replaced = asyncio.Event()
        self.is_here = True

    def leave(self) -> None:
        """Its socket is closed."""
        self.is_here, self.left_at = False, time.monotonic()

    def send(self, channel: str, message: KernelMessage) -> None:
        """Have it get a message."""
        self.outbox.put(pack(channel, message))

    def close(self) -> None:
        """It is forgotten; a cell that runs goes on."""
        for task in self._tasks:
            task.cancel()
        self.outbox.close()

    # --- its requests -----------------------------------------------------------------------------

    def receive(self, channel: str, message: KernelMessage, size_bytes: int) -> None:
        """Take a message in; it is answered when its turn comes."""
        match channel, message.kind:
            case ("shell", kind) if kind == "execute_request" or kind in _COMMS or kind in _QUESTIONS:
                self._queue(message, size_bytes)
            case "control", "kernel_info_request":
                self._hub.ask(self, "control", message)
            case ("control", "interrupt_request") | ("stdin", "input_reply"):
                self._urgent.append(message)
                self._asked_urgently.set()
            case (("shell" | "control"), kind) if kind.endswith("_request"):
                self._reply(channel, message, replies.failed("NotSupported", f"{kind} is not supported here"))

    def _queue(self, message: KernelMessage, size_bytes: int) -> None:
        if len(self._waiting) >= _WAITING or self._waiting_bytes + size_bytes > _WAITING_BYTES:
            if message.kind.endswith("_request"):
                self._reply("shell", message, replies.failed("TooManyRequests", "too many requests wait"))
            return
        self._waiting.append((message, size_bytes))
        self._waiting_bytes += size_bytes
        self._asked.set()

    def abort_waiting(self) -> None:
        """Answer all cells that wait with that they were not run."""
        waiting, self._waiting = self._waiting, deque()
        for message, size_bytes in waiting:
            if message.kind != "execute_request":
                self._waiting.append((message, size_bytes))
                continue
            self._waiting_bytes -= size_bytes
            self._hub.publish("status", {"execution_state": "busy"}, message.header)
            self._reply("shell", message, {"status": "aborted"})
            self._hub.publish("status", {"execution_state": "idle"}, message.header)

    def _reply(self, channel: str, request: KernelMessage, content: JsonObject) -> None:
        kind = request.kind.removesuffix("request") + "reply"
        self.send(channel, self._hub.message(kind, content, request.header))

    async def _serve_urgent(self) -> None:
        """What must not wait for the cell that runs: it is about that cell."""
        while True:
            while not self._urgent:
                self._asked_urgently.clear()
                await self._asked_urgently.wait()
            message = self._urgent.popleft()
            try:
                if message.kind == "interrupt_request":
                    await self._hub.session.interrupt()
                    self._reply("control", message, {"status": "ok"})
                else:
                    await self._hub.session.answer(str(message.content.get("value", "")))
            except (CallFailed, SessionsError) as error:
                # An answer that comes too late has nobody who waits for it.
                log.debug("session %s: %s: %s", self._hub.session.session_id, message.kind, log_text(error))

    async def _serve(self) -> None:
        """In order of arrival, as a kernel does."""
        while True:
            while not self._waiting:
                self._asked.clear()
                await self._asked.wait()
            message, size_bytes = self._waiting.popleft()
            self._waiting_bytes -= size_bytes
            try:
                if message.kind == "execute_request":
                    await self._execute(message)
                elif message.kind in _COMMS:
                    await self._handle(message)
                else:
                    self._hub.ask(self, "shell", message)
            except Exception:
                log.exception("a %s of session %s failed", message.kind, self._hub.session.session_id)
                if message.kind.endswith("_request"):
                    self._reply("shell", message, replies.failed("Internal", "the service's log says more"))

    async def _handle(self, message: KernelMessage) -> None:
        """A widget's message, which may run code."""
        hub = self._hub
        await hub.ready()
        with hub.running(message) as running:
            try:
                # Who is forgotten meanwhile would leave code that nobody follows.
                await settle(self._hear(message))
            except (CallFailed, SessionsError) as error:
                hub.publish_text("stderr", f"{error}\n", message.header)
            await running.published(_PUBLISHED_SEC)

    async def _hear(self, message: KernelMessage) -> None:
        async with aclosing(self._hub.session.handle(message, self._hub.limits)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, Mark):
                    await self._hub.order.mark(chunk.message_id)
                else:
                    self._hub.publish_text(chunk.stream, chunk.text, message.header)

    async def _execute(self, message: KernelMessage) -> None:
        hub = self._hub
        await hub.ready()
        with hub.running(message) as running:
            try:
                hub.rate.count(hub.session.record.owner)
                live = await hub.session.run_cell(self._cell(message), hub.limits)
                result = await self._follow(live, message)
                await running.published(_PUBLISHED_SEC)
                reply = replies.of_result(result, live.reply)
                # The kernel knows of an interrupt, and not why.
                running.has_error = running.has_error and not result.timed_out
            except (CallFailed, SessionsError, replies.BadRequest) as error:
                reply = replies.failed(type(error).__name__, str(error))
            self._tell_of_error(reply, running)
            self._reply("shell", message, reply)
        if reply["status"] == "error" and message.content.get("stop_on_error", True):
            self.abort_waiting()

    def _cell(self, message: KernelMessage) -> Cell:
        """The cell that is asked for. Raises `BadRequest`."""
        content: dict[str, Any] = message.content
        code = content.get("code")
        if not isinstance(code, str):
            raise replies.BadRequest("an execute_request without code")
        silent = content.get("silent") is True
        return Cell(
            code=code,
            stdin=None,
            timeout_sec=self._hub.limits.timeout_sec,
            last_line_interactive=True,
            final=False,
            counted=not silent and content.get("store_history") is not False,
            allow_stdin=content.get("allow_stdin") is not False,
            asked=replies.asked(message, silent=silent),
        )

    async def _follow(self, live: RunningCell, message: KernelMessage) -> ExecuteResult:
        """Tell of what the cell prints and asks, up to its end. Raises what made it fail."""
        async for event in live.follow():
            match event:
                case OutputChunk():
                    self._hub.publish_text(event.stream, event.text, message.header)
                case Mark():
                    await self._hub.order.mark(event.message_id)
                case InputRequest():
                    asked = {"prompt": event.prompt, "password": event.password}
                    self.send("stdin", self._hub.message("input_request", asked, message.header))
                case ExecuteResult():
                    return event
        raise AssertionError("a cell ended without a result")

    def _tell_of_error(self, reply: JsonObject, running: Running) -> None:
        """Show an error that the kernel has not shown itself, such as its own end."""
        if reply["status"] == "error" and not running.has_error:
            error = {name: reply[name] for name in ("ename", "evalue", "traceback")}
            self._hub.publish("error", error, running.header)
