"""Speaking to a kernel over its mapped ports. The one module that imports `jupyter_client`.

The user's code owns the kernel's key, so nothing a message says is believed: frames are capped on
our own sockets, and what can't be read is counted and passed over.
"""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import zmq
import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel

from kernel_image import contract
from sessions.errors import SupervisorFailed
from sessions.models import Cell, Connection, JsonObject

_MAX_FRAME_BYTES: Final = 1 << 24
_QUEUED_MESSAGES: Final = 8
"""Of one kernel, that wait here to be read; the rest waits in its container."""
_MALFORMED_LIMIT: Final = 1000
"""Unreadable messages in one execution, after which the rest is not waited for."""
_RECONNECT_MS: Final = 20
_RESEND_SEC: Final = 0.2


@dataclass(frozen=True)
class Message:
    """A kernel message of the running request; `size_bytes` is an estimate of its weight."""

    kind: str
    content: JsonObject
    size_bytes: int

    @property
    def is_idle(self) -> bool:
        """Whether the kernel says that it has published all."""
        return self.kind == "status" and self.content.get("execution_state") == "idle"


class KernelContext:
    """Sockets' shared settings; one for the service."""

    def __init__(self) -> None:
        self.zmq = zmq.asyncio.Context()
        self.zmq.setsockopt(zmq.MAXMSGSIZE, _MAX_FRAME_BYTES)
        self.zmq.setsockopt(zmq.RCVHWM, _QUEUED_MESSAGES)
        self.zmq.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        self.zmq.setsockopt(zmq.LINGER, 0)

    def close(self) -> None:
        self.zmq.destroy(linger=0)


class KernelClient:
    """The shell and iopub channels of one kernel."""

    def __init__(self, context: KernelContext, connection: Connection) -> None:
        container = connection.container
        self._client: Any = AsyncKernelClient(context=context.zmq)
        self._client.load_connection_info(
            {
                "transport": "tcp",
                "ip": container.host,
                "shell_port": container.ports[contract.SHELL_PORT],
                "iopub_port": container.ports[contract.IOPUB_PORT],
                "key": connection.kernel_key,
                "signature_scheme": "hmac-sha256",
            }
        )
        self._client.start_channels(shell=True, iopub=True, stdin=False, hb=False, control=False)

    async def wait_until_ready(self, timeout_sec: float) -> None:
        """Return once the kernel has answered on both channels, so that no output is missed.

        Raises:
            SupervisorFailed: it did not in time.
        """
        try:
            async with asyncio.timeout(timeout_sec):
                while True:
                    request = self._client.kernel_info()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_RESEND_SEC):
                            async for message in self.outputs(request):
                                if message.is_idle:
                                    return
        except TimeoutError as error:
            raise SupervisorFailed("the kernel does not answer on its ports") from error

    def request(self, cell: Cell) -> str:
        """Send an execute_request; returns its id."""
        options: JsonObject = {
            "cell_id": cell.cell_id,
            "last_line_interactive": cell.last_line_interactive,
            "final": cell.final,
        }
        if cell.stdin is not None:
            options["stdin"] = cell.stdin
        content = {
            "code": cell.code,
            "silent": False,
            "store_history": cell.counted,
            "user_expressions": {},
            "allow_stdin": cell.allow_stdin,
            "stop_on_error": False,
        }
        message = self._client.session.msg(
            "execute_request", content, metadata={contract.CELL_METADATA: options}
        )
        self._client.shell_channel.send(message)
        request_id: str = message["header"]["msg_id"]
        return request_id

    async def reply(self, request_id: str) -> JsonObject:
        """The content of the execute_reply to `request_id`."""
        async for message in self._messages(self._client.shell_channel, request_id):
            if message.kind == "execute_reply":
                return message.content
        raise SupervisorFailed("the kernel sent nothing but unreadable messages")

    def outputs(self, request_id: str) -> AsyncIterator[Message]:
        """What is published for `request_id`, for as long as it is read: see `Message.is_idle`."""
        return self._messages(self._client.iopub_channel, request_id)

    async def _messages(self, channel: AsyncZMQSocketChannel, request_id: str) -> AsyncIterator[Message]:
        session = self._client.session
        malformed = 0
        while malformed < _MALFORMED_LIMIT:
            frames = await channel.socket.recv_multipart()
            try:
                kind, content, answers = _read(session, frames)
            except Exception:
                malformed += 1
                continue
            if answers == request_id:
                yield Message(kind, content, sum(map(len, frames)))

    def close(self) -> None:
        # Its own stop_channels() opens the channels that are not there to close them.
        self._client.shell_channel.stop()
        self._client.iopub_channel.stop()


def _read(session: Any, frames: list[bytes]) -> tuple[str, JsonObject, str]:
    """Type and content of a message, and the id of the request it answers.

    `Session.deserialize` does the same, and spends half of its time on dates that nobody reads.
    Layout: jupyter-client.readthedocs.io/en/stable/messaging.html#the-wire-protocol
    """
    _, (signature, header, parent, metadata, content, *_) = session.feed_identities(frames)
    if not hmac.compare_digest(session.sign([header, parent, metadata, content]), signature):
        raise ValueError("a wrong signature")
    kind, data = session.unpack(header)["msg_type"], session.unpack(content)
    if not (isinstance(kind, str) and isinstance(data, dict)):
        raise TypeError("not a message")
    return kind, data, session.unpack(parent)["msg_id"]
