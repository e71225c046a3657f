"""The clients of one session: their connections, their waiting requests, the messages that they will receive.

A client is remembered for a while after its WebSocket has closed, as by Jupyter's own server. When it
connects again, it receives the messages that it has missed.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

from service.gateway.errors import TooManyConnections
from service.gateway.iopub import IOPub
from service.gateway.memory import Allowance, KernelMemory
from service.gateway.messages import error_reply
from service.gateway.request_handler import RequestHandler
from service.gateway.send_queue import SendQueue
from sessions.models import PackedMessage
from sessions.tasks import BackgroundTasks

log = logging.getLogger(__name__)

_KERNEL_REQUESTS: Final = frozenset(
    {"kernel_info_request", "complete_request", "inspect_request", "is_complete_request"}
    | {"history_request", "comm_info_request"}
)
"""Types of the requests that the kernel answers without running code of the user."""
_COMM_MESSAGES: Final = frozenset({"comm_open", "comm_msg", "comm_close"})
_MAX_CONNECTED: Final = 8
_MAX_DISCONNECTED: Final = 4
_MAX_WAITING: Final = 1000
_MAX_URGENT: Final = 100
_MESSAGE_OVERHEAD_BYTES: Final = 2000
_KEPT_BYTES: Final = 1 << 20
"""Cells of this size together still run when their client has disconnected; further ones are aborted."""


class TooMuchWaiting(Exception):
    """A message that has no reply cannot be kept, so the client has to be disconnected."""


class _Waiting:
    """Messages that wait to be carried out, in order of arrival. Their bytes count in an allowance."""

    def __init__(self, allowance: Allowance, most: int) -> None:
        """`most` is the number of messages that may wait."""
        self._allowance = allowance
        self._most = most
        self._messages: deque[PackedMessage] = deque()
        self._changed = asyncio.Event()

    def __iter__(self) -> Iterator[PackedMessage]:
        return iter(tuple(self._messages))

    def add(self, message: PackedMessage) -> bool:
        """Add a message. Return False if there is no room for it."""
        if len(self._messages) >= self._most or not self._allowance.take(_size(message)):
            return False
        self._messages.append(message)
        self._changed.set()
        return True

    def remove(self, message: PackedMessage) -> None:
        """Remove a message that is not to be carried out."""
        self._messages.remove(message)
        self._allowance.give_back(_size(message))

    @asynccontextmanager
    async def next(self) -> AsyncIterator[PackedMessage]:
        """Wait for the next message and remove it. Its bytes count until the block ends."""
        while not self._messages:
            self._changed.clear()
            await self._changed.wait()
        message = self._messages.popleft()
        try:
            yield message
        finally:
            self._allowance.give_back(_size(message))


def _size(message: PackedMessage) -> int:
    return message.size_bytes + _MESSAGE_OVERHEAD_BYTES


class Client:
    """Takes the client's messages with `receive`; `queue` has the messages for the client."""

    def __init__(self, handler: RequestHandler, queue: SendQueue, allowance: Allowance) -> None:
        """`allowance` limits the bytes of the client's messages until they are carried out and answered."""
        self.queue = queue
        self.is_connected = False
        self._is_closed = False
        """Whether the session has forgotten the client, which may still receive its last messages."""
        self.disconnected_at = 0.0
        """By `time.monotonic`."""
        self.replaced = asyncio.Event()
        """Set when another WebSocket takes the place of the present one."""
        self._handler = handler
        self._allowance = allowance
        self._waiting = _Waiting(allowance, _MAX_WAITING)
        self._urgent = _Waiting(allowance, _MAX_URGENT)
        """Messages about the running cell, which must not wait for its end."""
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
        """Record that the WebSocket is closed. Cells that wait will run, everything else is dropped."""
        self.is_connected, self.disconnected_at = False, time.monotonic()
        if self._is_closed:
            self.queue.clear()
            return
        self._handler.forget(self.queue)
        kept_bytes = 0
        for message in self._waiting:
            is_cell = message.kind == "execute_request"
            kept_bytes += message.size_bytes if is_cell else 0
            if not is_cell or kept_bytes > _KEPT_BYTES:
                self._drop(message)
        for message in self._urgent:
            self._urgent.remove(message)

    def close(self) -> None:
        """Forget the client and its waiting requests; a running cell goes on."""
        self._is_closed = True
        self._tasks.cancel()
        self.queue.close()
        if not self.is_connected:
            self.queue.clear()
        self._handler.forget(self.queue)
        for waiting in (self._waiting, self._urgent):
            for message in waiting:
                waiting.remove(message)

    # --- its requests -----------------------------------------------------------------------------

    def receive(self, channel: str, message: PackedMessage) -> None:
        """Accept a message of the client; its request is carried out when its turn comes.

        A request that has to wait is refused with a reply if too much waits.

        Raises:
            TooMuchWaiting: too much waits, and the message is none that has a reply.
        """
        match channel, message.kind:
            case ("shell", kind) if (
                kind == "execute_request" or kind in _COMM_MESSAGES or kind in _KERNEL_REQUESTS
            ):
                if not self._waiting.add(message):
                    self._refuse_or_disconnect("shell", message)
            case "control", "kernel_info_request":
                self._ask_kernel("control", message)
            case ("control", "interrupt_request") | ("stdin", "input_reply"):
                if not self._urgent.add(message):
                    self._refuse_or_disconnect("control", message)
            case (("shell" | "control"), kind) if kind.endswith("_request"):
                self._refuse(channel, message, "NotSupported", f"{kind} is not supported here")

    def _ask_kernel(self, channel: str, message: PackedMessage) -> None:
        self._handler.ask_kernel(channel, message, self.queue, self._allowance)

    def _refuse_or_disconnect(self, channel: str, message: PackedMessage) -> None:
        if not message.kind.endswith("_request"):
            raise TooMuchWaiting
        self._refuse(channel, message, "TooManyRequests", "too many requests wait")

    def _refuse(self, channel: str, request: PackedMessage, name: str, value: str) -> None:
        self._handler.reply(channel, request, error_reply(name, value), self.queue)

    def _drop(self, message: PackedMessage) -> None:
        """Remove a message from those that wait; reply to a cell that it does not run."""
        self._waiting.remove(message)
        if message.kind == "execute_request":
            self._handler.abort(message, self.queue)

    def abort_cells(self) -> None:
        """Reply to all waiting cells that they do not run."""
        for message in self._waiting:
            if message.kind == "execute_request":
                self._drop(message)

    async def _serve_urgent(self) -> None:
        """Carry out interrupts and answers to `input()` at once."""
        while True:
            async with self._urgent.next() as message:
                if message.kind == "interrupt_request":
                    await self._handler.interrupt(message, self.queue)
                else:
                    await self._handler.answer_input(message)

    async def _serve(self) -> None:
        """Carry out all other requests one after the other, as a kernel does."""
        while True:
            async with self._waiting.next() as message:
                try:
                    await self._carry_out(message)
                except Exception:
                    log.exception("session %s: a %s failed", self._handler.session_id, message.kind)
                    if message.kind.endswith("_request"):
                        self._refuse("shell", message, "Internal", "the service's log says more")
            if message.kind in _KERNEL_REQUESTS:
                # Its bytes count again until the kernel has answered.
                self._ask_kernel("shell", message)

    async def _carry_out(self, message: PackedMessage) -> None:
        if message.kind == "execute_request":
            if not await self._handler.execute(message, self.queue):
                self.abort_cells()
        elif message.kind in _COMM_MESSAGES:
            await self._handler.handle_comm(message)


class Clients:
    """The clients by name, at most `_MAX_CONNECTED` connected ones and `_MAX_DISCONNECTED` others."""

    def __init__(
        self, handler: RequestHandler, iopub: IOPub, memory: KernelMemory, on_empty: Callable[[], None]
    ) -> None:
        """`on_empty` is called when the last client is forgotten."""
        self._handler = handler
        self._memory = memory
        self._iopub = iopub
        self._on_empty = on_empty
        self._clients: dict[str, Client] = {}

    @property
    def connected(self) -> int:
        """Number of open WebSockets."""
        return sum(client.is_connected for client in self._clients.values())

    def connect(self, name: str) -> Client:
        """Return the client of that name, which may be one that connects again.

        Raises:
            TooManyConnections: `_MAX_CONNECTED` other clients are connected.
        """
        client = self._clients.get(name)
        if (client is None or not client.is_connected) and self.connected >= _MAX_CONNECTED:
            raise TooManyConnections(_MAX_CONNECTED)
        if client is None:
            queue = SendQueue(self._iopub.stream_message, self._memory)
            self._iopub.subscribe(queue)
            client = self._clients[name] = Client(self._handler, queue, self._memory.for_client())
        client.connect()
        for old_name in self._disconnected()[_MAX_DISCONNECTED:]:
            self._forget(old_name)
        return client

    def abort_cells(self) -> None:
        """Reply to the waiting cells of all clients that they do not run."""
        for client in self._clients.values():
            client.abort_cells()

    def forget_disconnected(self, seconds: float) -> None:
        """Forget the clients that have been disconnected for more than so many seconds."""
        latest = time.monotonic() - seconds
        for name in self._disconnected():
            if self._clients[name].disconnected_at < latest:
                self._forget(name)

    def forget_all(self) -> None:
        """Forget all clients; each still receives the messages that are in its queue."""
        for name in list(self._clients):
            self._forget(name)

    def _disconnected(self) -> list[str]:
        """Return the names of the clients that are not connected, the last to disconnect first."""
        names = [name for name, client in self._clients.items() if not client.is_connected]
        return sorted(names, key=lambda name: -self._clients[name].disconnected_at)

    def _forget(self, name: str) -> None:
        client = self._clients.pop(name)
        self._iopub.unsubscribe(client.queue)
        client.close()
        if not self._clients:
            self._on_empty()
