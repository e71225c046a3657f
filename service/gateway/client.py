"""One client of a session: its connection, its waiting requests, and the messages that it will receive.

A client is remembered for a while after its WebSocket has closed, as by Jupyter's own server. When it
connects again, it receives the messages that it has missed.
"""

import asyncio
import logging
import time
from collections import deque
from typing import Final

from service.gateway.messages import error_reply
from service.gateway.request_handler import RequestHandler
from service.gateway.send_queue import SendQueue
from sessions.models import KernelMessage
from sessions.tasks import BackgroundTasks

log = logging.getLogger(__name__)

_KERNEL_REQUESTS: Final = frozenset(
    {"kernel_info_request", "complete_request", "inspect_request", "is_complete_request"}
    | {"history_request", "comm_info_request"}
)
"""Types of the requests that the kernel answers without running code of the user."""
_COMM_MESSAGES: Final = frozenset({"comm_open", "comm_msg", "comm_close"})
_MAX_WAITING: Final = 1000
_MAX_WAITING_BYTES: Final = 1 << 24
_MAX_URGENT: Final = 100


class Client:
    """Takes the client's messages with `receive`; `queue` has the messages for the client."""

    def __init__(self, handler: RequestHandler, queue: SendQueue) -> None:
        self.queue = queue
        self.is_connected = False
        self.disconnected_at = 0.0
        """By `time.monotonic`."""
        self.replaced = asyncio.Event()
        """Set when another WebSocket takes the place of the present one."""
        self._handler = handler
        self._waiting: deque[tuple[KernelMessage, int]] = deque()
        """Requests and their sizes in bytes, in order of arrival."""
        self._waiting_bytes = 0
        self._urgent: deque[KernelMessage] = deque(maxlen=_MAX_URGENT)
        """Messages about the running cell, which must not wait for its end."""
        self._has_waiting = asyncio.Event()
        self._has_urgent = asyncio.Event()
        self._tasks = BackgroundTasks()
        self._tasks.start(self._serve())
        self._tasks.start(self._serve_urgent())

    # --- its connection ---------------------------------------------------------------------------

    def connect(self) -> None:
        """Record that a WebSocket is open; it replaces an earlier one."""
        self.replaced.set()
        self.replaced = asyncio.Event()
        self.is_connected = True

    def disconnect(self) -> None:
        """Record that the WebSocket is closed."""
        self.is_connected, self.disconnected_at = False, time.monotonic()

    def close(self) -> None:
        """Forget the client and its waiting requests; a running cell goes on."""
        self._tasks.cancel()
        self.queue.close()
        self._handler.forget(self.queue)

    # --- its requests -----------------------------------------------------------------------------

    def receive(self, channel: str, message: KernelMessage, size_bytes: int) -> None:
        """Accept a message of the client; its request is carried out when its turn comes."""
        match channel, message.kind:
            case ("shell", kind) if (
                kind == "execute_request" or kind in _COMM_MESSAGES or kind in _KERNEL_REQUESTS
            ):
                self._enqueue(message, size_bytes)
            case "control", "kernel_info_request":
                self._handler.ask_kernel("control", message, self.queue)
            case ("control", "interrupt_request") | ("stdin", "input_reply"):
                self._urgent.append(message)
                self._has_urgent.set()
            case (("shell" | "control"), kind) if kind.endswith("_request"):
                self._refuse(channel, message, "NotSupported", f"{kind} is not supported here")

    def _enqueue(self, message: KernelMessage, size_bytes: int) -> None:
        if len(self._waiting) >= _MAX_WAITING or self._waiting_bytes + size_bytes > _MAX_WAITING_BYTES:
            if message.kind.endswith("_request"):
                self._refuse("shell", message, "TooManyRequests", "too many requests wait")
            return
        self._waiting.append((message, size_bytes))
        self._waiting_bytes += size_bytes
        self._has_waiting.set()

    def _refuse(self, channel: str, request: KernelMessage, name: str, value: str) -> None:
        self._handler.reply(channel, request, error_reply(name, value), self.queue)

    def abort_cells(self) -> None:
        """Reply to all waiting cells that they do not run."""
        waiting, self._waiting = self._waiting, deque()
        for message, size_bytes in waiting:
            if message.kind == "execute_request":
                self._waiting_bytes -= size_bytes
                self._handler.abort(message, self.queue)
            else:
                self._waiting.append((message, size_bytes))

    async def _serve_urgent(self) -> None:
        """Carry out interrupts and answers to `input()` at once."""
        while True:
            while not self._urgent:
                self._has_urgent.clear()
                await self._has_urgent.wait()
            message = self._urgent.popleft()
            if message.kind == "interrupt_request":
                await self._handler.interrupt(message, self.queue)
            else:
                await self._handler.answer_input(message)

    async def _serve(self) -> None:
        """Carry out all other requests one after the other, as a kernel does."""
        while True:
            while not self._waiting:
                self._has_waiting.clear()
                await self._has_waiting.wait()
            message, size_bytes = self._waiting.popleft()
            self._waiting_bytes -= size_bytes
            try:
                await self._carry_out(message)
            except Exception:
                log.exception("session %s: a %s failed", self._handler.session_id, message.kind)
                if message.kind.endswith("_request"):
                    self._refuse("shell", message, "Internal", "the service's log says more")

    async def _carry_out(self, message: KernelMessage) -> None:
        if message.kind == "execute_request":
            has_succeeded = await self._handler.execute(message, self.queue)
            if not has_succeeded and message.content.get("stop_on_error", True):
                self.abort_cells()
        elif message.kind in _COMM_MESSAGES:
            await self._handler.handle_comm(message)
        else:
            self._handler.ask_kernel("shell", message, self.queue)
