"""The requests of clients that run code in the kernel, and what the kernel publishes for them."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from service.gateway.iopub import IOPub
from service.gateway.output_order import MARKED_KINDS, OutputOrder
from sessions.models import JsonObject, KernelMessage, PackedMessage

_TRAFFIC_FACTOR: Final = 5
"""All displays of a request, those that were cleared or updated included, may have so many times the limit
of the displays that are kept.
"""
_DISPLAY_KINDS: Final = frozenset({"execute_result", "display_data", "update_display_data"})


class RunningRequest:
    """A request that runs code, with a summary of what the kernel has published for it."""

    def __init__(self, header: JsonObject, limit_bytes: int) -> None:
        """`header` is the header of the request; `limit_bytes` limits the size of its displays."""
        self.header = header
        self.limit_bytes = limit_bytes
        self.has_error = False
        """Whether the kernel has published an error."""
        self.is_busy = False
        """Whether the last status that the kernel published is busy."""
        self._display_bytes = 0
        self._has_noted_drop = False
        self._idle = asyncio.Event()

    def allows(self, message: KernelMessage, size_bytes: int) -> bool:
        """Record a message of the kernel and return whether clients may have it.

        The kernel's own idle status is dropped, because the kernel sends it before all text has arrived.
        """
        if message.kind == "status":
            self.is_busy = message.content.get("execution_state") == "busy"
            if message.content.get("execution_state") == "idle":
                self._idle.set()
                return False
        self.has_error = self.has_error or message.kind == "error"
        if message.kind in _DISPLAY_KINDS:
            self._display_bytes += size_bytes
            return not self._is_over_limit
        return True

    def needs_drop_note(self) -> bool:
        """Return True once, when displays have been dropped and clients have no note about that yet."""
        if self._has_noted_drop or not self._is_over_limit:
            return False
        self._has_noted_drop = True
        return True

    @property
    def _is_over_limit(self) -> bool:
        return self._display_bytes > _TRAFFIC_FACTOR * self.limit_bytes

    def connection_lost(self) -> None:
        """Let `wait_until_published` return, as the kernel publishes nothing more."""
        self._idle.set()

    async def wait_until_published(self, seconds: float) -> None:
        """Wait until the kernel has published everything for this request, at most so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()


class RunningRequests:
    """The running requests of one session, of all its clients."""

    def __init__(self, iopub: IOPub, limit_bytes: int) -> None:
        """`limit_bytes` limits the size of each request's displays."""
        self.order = OutputOrder()
        self._iopub = iopub
        self._limit_bytes = limit_bytes
        self._requests: dict[str, RunningRequest] = {}
        """By message id."""
        self._unpublished_state = ""
        """Execution state of a new kernel that clients do not know yet; empty if there is none."""

    @contextmanager
    def run(self, request: PackedMessage) -> Iterator[RunningRequest]:
        """Count the request as running during the block, and publish its idle status afterwards."""
        running = RunningRequest(request.header, self._limit_bytes)
        self._requests[request.message_id] = running
        self.order.start_request()
        try:
            yield running
        finally:
            self._requests.pop(request.message_id, None)
            self._iopub.publish_status("idle", request.header)
            if self._unpublished_state and not self._requests:
                self._publish_new_kernel()

    async def publish(self, message: KernelMessage, size_bytes: int) -> None:
        """Publish a message of the kernel after the text before it, or drop it if it is over the limit."""
        running = self._requests.get(message.parent_id or "")
        # A thread of an earlier cell writes its marks into the text of the cell that runs now.
        is_marked = message.kind in MARKED_KINDS
        if is_marked and (running or any(other.is_busy for other in self._requests.values())):
            await self.order.wait_for_text_before(message.message_id)
        if running is None or running.allows(message, size_bytes):
            self._iopub.forward(message)
        elif running.needs_drop_note():
            note = {"text/plain": f"[output left out: over the limit of {running.limit_bytes} bytes]"}
            self._iopub.publish("display_data", {"data": note, "metadata": {}}, running.header)
        self.order.message_published(message.message_id)

    def connection_lost(self) -> None:
        """Let no request wait for further messages: the connection to the kernel is closed."""
        for running in self._requests.values():
            running.connection_lost()

    def kernel_replaced(self, state: str) -> None:
        """Publish the state of a new kernel, as soon as no request runs.

        Args:
            state: `starting` if a client has restarted the kernel, else `restarting`. On `restarting`,
                JupyterLab reports that the kernel has died, drops its requests and connects again. So
                the requests must have their replies before that.
        """
        self._unpublished_state = state
        if not self._requests:
            self._publish_new_kernel()

    def _publish_new_kernel(self) -> None:
        for state in (self._unpublished_state, "idle"):
            self._iopub.publish_status(state, {})
        self._unpublished_state = ""
