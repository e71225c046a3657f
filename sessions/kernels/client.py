"""Requests to a kernel and the messages that answer them.

User code owns the kernel's key, so nothing that a message says is trusted. Messages are bounded one by one
(`sessions.kernels.channel`) and all together, and invalid ones are skipped.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from kernel_image import contract
from sessions.kernels.assistance import Question
from sessions.kernels.channel import Channel, ChannelBroken
from sessions.kernels.connection import Connection
from sessions.kernels.errors import SupervisorFailed
from sessions.kernels.messages import Message, MessageCodec
from sessions.kernels.pace import Pace
from sessions.models import Cell, JsonObject, PackedMessage

_MOST_MESSAGES: Final = 100_000
"""Messages of one channel that are read for one request."""
_MOST_BYTES: Final = 1 << 28
"""Bytes of the messages of one channel that are read for one request."""
_RESEND_SEC: Final = 0.2
_RETRY_SEC: Final = 0.02


class KernelClient:
    """The shell and iopub channels of one kernel."""

    def __init__(self, connection: Connection) -> None:
        self._codec = MessageCodec(connection.kernel_key)
        self._shell = Channel.of(connection, contract.SHELL_PORT, b"DEALER")
        self._iopub = Channel.of(connection, contract.IOPUB_PORT, b"SUB")

    @property
    def is_connected(self) -> bool:
        """Whether both channels are open. A connection that just broke may still count as open."""
        return self._shell.is_open and self._iopub.is_open

    async def wait_until_ready(self, timeout_sec: float) -> None:
        """Return once the kernel has answered on both channels, so that no output is missed.

        Raises:
            SupervisorFailed: the kernel has not answered after `timeout_sec` seconds.
        """
        try:
            async with asyncio.timeout(timeout_sec):
                while not await self._answers():  # noqa: ASYNC110
                    await asyncio.sleep(_RETRY_SEC)
        except TimeoutError as error:
            raise SupervisorFailed("the kernel does not answer on its ports") from error

    async def _answers(self) -> bool:
        try:
            for channel in (self._shell, self._iopub):
                if not channel.is_open:
                    await channel.open()
            async with asyncio.timeout(_RESEND_SEC):
                request_id = self._request("kernel_info_request", {})
                async for message in self.outputs(request_id):
                    if message.is_idle:
                        return True
        except (TimeoutError, ChannelBroken):
            pass
        return False

    def request(self, cell: Cell) -> str:
        """Send an execute_request for a cell, and return the id of the request."""
        options: JsonObject = {
            "cell_id": cell.cell_id,
            "last_line_interactive": cell.last_line_interactive,
            "final": cell.final,
            "notebook": cell.asked is not None,
        }
        if cell.stdin is not None:
            options["stdin"] = cell.stdin
        content: JsonObject = {
            "code": cell.code,
            "silent": False,
            "store_history": cell.counted,
            "user_expressions": {},
            "allow_stdin": cell.allow_stdin,
            "stop_on_error": False,
        }
        metadata: JsonObject = {contract.CELL_METADATA: options}
        if cell.asked is None:
            return self._request("execute_request", content, metadata)
        for name in ("silent", "user_expressions"):
            content[name] = cell.asked.content.get(name, content[name])
        self.send(replace(cell.asked, metadata=cell.asked.metadata | metadata, content=content).packed())
        return cell.asked.message_id

    def send(self, message: PackedMessage) -> None:
        """Send a message of a Jupyter client. User code may be able to guess its id."""
        self._shell.send(self._codec.sign(message))

    def _request(self, kind: str, content: JsonObject, metadata: JsonObject | None = None) -> str:
        request_id, frames = self._codec.request(kind, content, metadata)
        self._shell.send(frames)
        return request_id

    async def ask(self, question: Question) -> JsonObject:
        """Return the content of the reply to a question, once the kernel is idle again.

        Raises:
            ChannelBroken: the iopub channel broke. If the shell channel breaks, this waits as `reply` does.
        """
        request_id = self._request(f"{question.kind}_request", question.content)
        content = await self.reply(request_id, f"{question.kind}_reply")
        async for message in self.outputs(request_id):
            if message.is_idle:
                break
        return content

    async def reply(self, request_id: str, kind: str = "execute_reply") -> JsonObject:
        """Return the content of the reply to a request.

        Waits forever if there is no reply, or if it is invalid: the caller has to set a time limit.
        """
        with contextlib.suppress(ChannelBroken):
            async for message in self._messages(self._shell, request_id):
                if message.kind == kind:
                    return message.content
        no_reply: JsonObject = {}
        return await asyncio.sleep(float("inf"), no_reply)

    def outputs(self, request_id: str) -> AsyncIterator[Message]:
        """Iterate over the messages that are published for a request, also after `Message.is_idle`.

        Stops when there are too many of them. Raises `ChannelBroken`.
        """
        return self._messages(self._iopub, request_id)

    async def _messages(self, channel: Channel, request_id: str) -> AsyncIterator[Message]:
        size = 0
        for _ in range(_MOST_MESSAGES):
            received = await channel.receive()
            size += received.size_bytes
            if size > _MOST_BYTES:
                return
            message = await self._codec.read_answer(received, request_id)
            if message is not None:
                yield message

    async def discard_published(self) -> None:
        """Read published messages and drop them, until cancelled. Used while no request runs."""
        pace = Pace()
        with contextlib.suppress(ChannelBroken):
            while True:
                await pace.take((await self._iopub.receive()).size_bytes)

    def close(self) -> None:
        """Close both channels."""
        self._shell.close()
        self._iopub.close()
