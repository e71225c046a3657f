"""Carries out the requests of a session's clients: cells, comm messages, interrupts, answers to `input()`."""

import asyncio
import logging
from contextlib import aclosing
from typing import Final

from service.auth.limits import RequestRate
from service.gateway import frames, messages
from service.gateway.frames import encode
from service.gateway.iopub import IOPub
from service.gateway.kernel_connection import KernelConnection
from service.gateway.memory import Allowance
from service.gateway.running_requests import RunningRequest, RunningRequests
from service.gateway.send_queue import SendQueue
from sessions.errors import CallFailed, SessionsError, log_text
from sessions.executions.limits import CellLimits
from sessions.executions.result import ExecutionResult
from sessions.executions.running_cell import RunningCell
from sessions.kernels.plain_json import parse
from sessions.models import Cell, InputRequest, JsonObject, KernelMessage, Mark, OutputChunk, PackedMessage
from sessions.session.session import Session
from sessions.tasks import finish

log = logging.getLogger(__name__)

_PUBLISH_SEC: Final = 10.0
"""After a cell has ended, its last messages from the kernel may take so long to arrive."""


class RequestHandler:
    """Carries out requests, one call each. Replies go to the send queue of the client that asks."""

    def __init__(
        self,
        session: Session,
        iopub: IOPub,
        requests: RunningRequests,
        connection: KernelConnection,
        limits: CellLimits,
        rate: RequestRate,
    ) -> None:
        self._session = session
        self._iopub = iopub
        self._requests = requests
        self._connection = connection
        self._limits = limits
        self._rate = rate

    @property
    def session_id(self) -> str:
        """Id of the session."""
        return self._session.session_id

    def reply(self, channel: str, request: PackedMessage, content: JsonObject, queue: SendQueue) -> None:
        """Send the reply to a request on the channel on which it came."""
        kind = request.kind.removesuffix("request") + "reply"
        queue.put(encode(channel, self._iopub.message(kind, content, request.header)))

    def ask_kernel(
        self, channel: str, request: PackedMessage, queue: SendQueue, allowance: Allowance
    ) -> None:
        """Pass a request on to the kernel, which replies without running code of the user.

        Refuse it if the kernel has not answered earlier ones, and the allowance of the client is used up.
        """
        if not self._connection.request(request, channel, queue, allowance):
            error = messages.error_reply("TooManyRequests", "the kernel has not answered earlier requests")
            self.reply(channel, request, error, queue)

    def forget(self, queue: SendQueue) -> None:
        """Drop the requests of a client that the kernel has not answered."""
        self._connection.forget(queue)

    def abort(self, request: PackedMessage, queue: SendQueue) -> None:
        """Reply to an `execute_request` that its cell does not run, because an earlier one failed."""
        self._iopub.publish_status("busy", request.header)
        self.reply("shell", request, {"status": "aborted"}, queue)
        self._iopub.publish_status("idle", request.header)

    async def interrupt(self, request: PackedMessage, queue: SendQueue) -> None:
        """Interrupt the running cell."""
        try:
            await self._session.interrupt()
        except (CallFailed, SessionsError) as error:
            log.debug("session %s: cannot be interrupted: %s", self.session_id, log_text(error))
        else:
            self.reply("control", request, {"status": "ok"}, queue)

    async def answer_input(self, reply: PackedMessage) -> None:
        """Pass an `input_reply` on to the running cell; a late one is ignored."""
        content: JsonObject = parse(reply.parts[-1]).value
        try:
            await self._session.cells.answer(str(content.get("value", "")))
        except (CallFailed, SessionsError) as error:
            log.debug("session %s: the input is not wanted: %s", self.session_id, log_text(error))

    # --- comm messages ----------------------------------------------------------------------------

    async def handle_comm(self, message: PackedMessage) -> None:
        """Have the kernel handle the message of a widget, which may run code."""
        await self._connection.wait_until_ready()
        with self._requests.run(message) as running:
            try:
                # If the client is forgotten meanwhile, the output of the code must still be read.
                await finish(self._run_comm(message))
            except (CallFailed, SessionsError) as error:
                self._iopub.publish_text("stderr", f"{error}\n", message.header)
            await running.wait_until_published(_PUBLISH_SEC)

    async def _run_comm(self, message: PackedMessage) -> None:
        async with aclosing(self._session.handle(message, self._limits)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, Mark):
                    await self._requests.order.wait_for_message(chunk.message_id)
                else:
                    self._iopub.publish_text(chunk.stream, chunk.text, message.header)

    # --- cells ------------------------------------------------------------------------------------

    async def execute(self, request: PackedMessage, queue: SendQueue) -> bool:
        """Run the cell of an `execute_request` and reply. Return whether the client's next cells may run."""
        await self._connection.wait_until_ready()
        stops_on_error = True
        with self._requests.run(request) as running:
            try:
                decoded = await self._decoded(request)
                stops_on_error = bool(decoded.content.get("stop_on_error", True))
                reply = await self._run_cell(decoded, running, queue)
            except (CallFailed, SessionsError, messages.BadRequest) as error:
                reply = messages.error_reply(type(error).__name__, str(error))
            has_failed = bool(reply["status"] == "error")
            if has_failed and not running.has_error:
                # The kernel does not publish all errors itself: its own end, for instance.
                content = {name: reply[name] for name in ("ename", "evalue", "traceback")}
                self._iopub.publish("error", content, request.header)
            self.reply("shell", request, reply, queue)
        return not (has_failed and stops_on_error)

    @staticmethod
    async def _decoded(request: PackedMessage) -> KernelMessage:
        """Return an `execute_request` with its content. Raises `BadRequest`."""
        if request.size_bytes < frames.LARGE_BYTES:
            return messages.decoded_request(request)
        return await asyncio.to_thread(messages.decoded_request, request)

    async def _run_cell(
        self, request: KernelMessage, running: RunningRequest, queue: SendQueue
    ) -> JsonObject:
        """Run a cell and return the content of its `execute_reply`."""
        self._rate.count(self._session.record.owner)
        cell = await self._session.cells.run(self._cell(request), self._limits)
        result = await self._publish_events(cell, request, queue)
        await running.wait_until_published(_PUBLISH_SEC)
        if result.error is not None and result.error.name != cell.reply.get("ename"):
            # At a limit the kernel has published a KeyboardInterrupt; clients are to see the reason for it.
            running.has_error = False
        return messages.execute_reply(result, cell.reply)

    def _cell(self, request: KernelMessage) -> Cell:
        """Return the cell of an `execute_request`. Raises `BadRequest`."""
        content = request.content
        code = content.get("code")
        if not isinstance(code, str):
            raise messages.BadRequest("the execute_request has no code")
        silent = content.get("silent") is True
        return Cell(
            code=code,
            stdin=None,
            timeout_sec=self._limits.timeout_sec,
            last_line_interactive=True,
            final=False,
            counted=not silent and content.get("store_history") is not False,
            allow_stdin=content.get("allow_stdin") is not False,
            asked=messages.kernel_request(request, silent=silent),
        )

    async def _publish_events(
        self, cell: RunningCell, request: KernelMessage, queue: SendQueue
    ) -> ExecutionResult:
        """Publish what a cell prints, and send the client its requests for input; return its result.

        Raises the error that ended the cell, if it has no result.
        """
        result: ExecutionResult | None = None
        async for event in cell.follow():
            match event:
                case OutputChunk():
                    self._iopub.publish_text(event.stream, event.text, request.header)
                case Mark():
                    await self._requests.order.wait_for_message(event.message_id)
                case InputRequest():
                    prompt = {"prompt": event.prompt, "password": event.password}
                    message = self._iopub.message("input_request", prompt, request.header)
                    queue.put(encode("stdin", message))
                case ExecutionResult():
                    result = event
        assert result is not None, "the last event of a cell is its result"
        return result
