"""Speaking to a kernel over its mapped ports. The one module that imports `jupyter_client`.

The user's code owns the kernel's key, so nothing a message says is believed: messages are bounded one
by one (`sessions.kernels.channel`) and all together, and what can't be read is passed over.
"""

import asyncio
import contextlib
import hmac
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final

from jupyter_client.session import DELIM, Session

from kernel_image import contract
from sessions.kernels.assistance import Question
from sessions.kernels.channel import Channel, ChannelBroken, Received, SocketType
from sessions.kernels.connection import Connection
from sessions.kernels.errors import SupervisorFailed
from sessions.kernels.marks import MarkFinder
from sessions.kernels.plain_json import Plain, TooManyValues, parse
from sessions.models import Cell, JsonObject, KernelMessage

_MESSAGES: Final = 100_000
_BYTES: Final = 1 << 28
"""Messages of one channel, and their bytes, that are read for one request."""
_HEADER_BYTES: Final = 1 << 16
_LARGE_BYTES: Final = 1 << 18
"""Content that is read on a thread, so that others have their turn."""
_MESSAGES_A_SECOND: Final = 500
_BYTES_A_SECOND: Final = 1 << 25
_BURST_SEC: Final = 4.0
"""What is taken at once, as time of the two above."""
_PARTS: Final = 4
"""Header, parent header, metadata and content; buffers follow."""
_OPEN_SEC: Final = 2.0
_MESSAGE_WEIGHT: Final = 512
_VALUE_WEIGHT: Final = 16
_RESEND_SEC: Final = 0.2
_RETRY_SEC: Final = 0.02


@dataclass(frozen=True)
class Message:
    """A kernel message of the running request; `weight` is about the bytes it takes to keep it.

    One that is `too_large` has no content, and where nothing of it was read, no kind.
    """

    kind: str
    content: JsonObject
    weight: int
    too_large: bool = False

    @property
    def is_idle(self) -> bool:
        """Whether the kernel says that it has published all."""
        return self.kind == "status" and self.content.get("execution_state") == "idle"


@dataclass(frozen=True)
class Relayed:
    """What came over a channel, None if it was too large or made no sense, and its size in bytes."""

    message: KernelMessage | None
    size_bytes: int


class KernelClient:
    """The shell and iopub channels of one kernel."""

    def __init__(self, connection: Connection) -> None:
        self._session = Session(key=connection.kernel_key.encode(), signature_scheme="hmac-sha256")
        self._shell = _channel(connection, contract.SHELL_PORT, b"DEALER")
        self._iopub = _channel(connection, contract.IOPUB_PORT, b"SUB")

    def mark_finder(self) -> MarkFinder:
        """What takes this kernel's marks out of its text."""
        return MarkFinder(self._session.key.decode())

    @property
    def is_connected(self) -> bool:
        """Whether both channels are open, as far as is known here."""
        return self._shell.is_open and self._iopub.is_open

    async def wait_until_ready(self, timeout_sec: float) -> None:
        """Return once the kernel has answered on both channels, so that no output is missed.

        Raises:
            SupervisorFailed: it did not in time.
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
                request = self._send("kernel_info_request", {})
                async for message in self.outputs(request):
                    if message.is_idle:
                        return True
        except (TimeoutError, ChannelBroken):
            pass
        return False

    def request(self, cell: Cell) -> str:
        """Send an execute_request; returns its id."""
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
            return self._send("execute_request", content, metadata)
        for name in ("silent", "user_expressions"):
            content[name] = cell.asked.content.get(name, content[name])
        self.tell(replace(cell.asked, metadata=cell.asked.metadata | metadata, content=content))
        return cell.asked.message_id

    def tell(self, message: KernelMessage) -> None:
        """Send a message of somebody else's, whose id may be one that the code can guess."""
        self._shell.send(_packed(self._session, message))

    def _send(self, kind: str, content: JsonObject, metadata: JsonObject | None = None) -> str:
        message = self._session.msg(kind, content, metadata=metadata)
        # The session would count: code could answer a request that is yet to come.
        request_id = message["header"]["msg_id"] = message["msg_id"] = uuid.uuid4().hex
        self._shell.send(self._session.serialize(message))
        return request_id

    async def ask(self, question: Question) -> JsonObject:
        """The content of the reply to a question, once the kernel is done with it.

        Raises:
            ChannelBroken: there is none. Otherwise as `reply`.
        """
        request_id = self._send(f"{question.kind}_request", question.content)
        content = await self.reply(request_id, f"{question.kind}_reply")
        async for message in self.outputs(request_id):
            if message.is_idle:
                break
        return content

    async def reply(self, request_id: str, kind: str = "execute_reply") -> JsonObject:
        """The content of the reply to `request_id`.

        A kernel that breaks the protocol has none: this then waits for good, up to the caller's deadline.
        """
        try:
            async for message in self._messages(self._shell, request_id):
                if message.kind == kind:
                    return message.content
        except ChannelBroken:
            pass
        await asyncio.sleep(float("inf"))
        raise AssertionError("unreachable")

    def outputs(self, request_id: str) -> AsyncIterator[Message]:
        """What is published for `request_id`, for as long as it is read: see `Message.is_idle`.

        Ends early when there is too much of it. Raises `ChannelBroken`.
        """
        return self._messages(self._iopub, request_id)

    async def _messages(self, channel: Channel, request_id: str) -> AsyncIterator[Message]:
        size = 0
        for _ in range(_MESSAGES):
            received = await channel.receive()
            size += received.size_bytes
            if size > _BYTES:
                return
            message = await self._read(received, request_id)
            if message is not None:
                yield message

    async def _read(self, received: Received, request_id: str) -> Message | None:
        """A message that answers `request_id`; None if it does not, or makes no sense.

        `Session.deserialize` does the same, and spends half of its time on dates that nobody reads.
        Layout: jupyter-client.readthedocs.io/en/stable/messaging.html#the-wire-protocol
        """
        if not received.frames:
            return Message("", {}, received.size_bytes, too_large=True)
        try:
            header, parent, _, content, *_ = _opened(self._session, received.frames)
            kind = parse(header).value["msg_type"]
            if parse(parent).value["msg_id"] != request_id or not isinstance(kind, str):
                return None
        except (ValueError, RecursionError, KeyError, TypeError):
            return None
        try:
            data = await _parse_content(content)
        except (TooManyValues, RecursionError):
            return Message(kind, {}, received.size_bytes, too_large=True)
        except ValueError:
            return None
        if not isinstance(data.value, dict):
            return None
        return Message(kind, data.value, received.size_bytes + _MESSAGE_WEIGHT + _VALUE_WEIGHT * data.count)

    async def read_past(self) -> None:
        """Throw away what is published, until cancelled: for while nothing runs that it could belong to."""
        pace = Pace()
        with contextlib.suppress(ChannelBroken):
            while True:
                await pace.take((await self._iopub.receive()).size_bytes)

    def close(self) -> None:
        self._shell.close()
        self._iopub.close()


class Pace:
    """So much at once and so much a second: who floods fills their own memory, and occupies nobody."""

    def __init__(self) -> None:
        self._whole_at = 0.0

    async def take(self, size_bytes: int) -> None:
        """Return when the next message may be taken."""
        now = time.monotonic()
        cost = 1 / _MESSAGES_A_SECOND + size_bytes / _BYTES_A_SECOND
        self._whole_at = max(now, self._whole_at) + cost
        await asyncio.sleep(max(0.0, self._whole_at - now - _BURST_SEC))


class Relay:
    """Shell and iopub of one kernel for somebody else's messages, beside the channels that run cells.

    What is published goes to both, and what nobody receives waits in the kernel.
    """

    def __init__(self, connection: Connection) -> None:
        self._session = Session(key=connection.kernel_key.encode(), signature_scheme="hmac-sha256")
        self._shell = _channel(connection, contract.SHELL_PORT, b"DEALER")
        self._iopub = _channel(connection, contract.IOPUB_PORT, b"SUB")

    async def open(self) -> None:
        """Connect. Raises `ChannelBroken`."""
        async with asyncio.timeout(_OPEN_SEC):
            await self._iopub.open()
            await self._shell.open()

    def tell(self, message: KernelMessage) -> None:
        """Send a message to the kernel, or into the void where the connection is broken."""
        self._shell.send(_packed(self._session, message))

    async def reply(self) -> Relayed:
        """The next message of the shell channel. Raises `ChannelBroken`."""
        return await self._read(await self._shell.receive())

    async def published(self) -> Relayed:
        """The next message that the kernel publishes. Raises `ChannelBroken`."""
        return await self._read(await self._iopub.receive())

    async def _read(self, received: Received) -> Relayed:
        nothing = Relayed(None, received.size_bytes)
        if not received.frames:
            return nothing
        try:
            parts = _opened(self._session, received.frames)
            header, parent, metadata = (_object(part) for part in parts[:3])
            if not isinstance(header["msg_type"], str):
                return nothing
            content = (await _parse_content(parts[3])).value
        except (ValueError, RecursionError, KeyError, TypeError):
            return nothing
        if not isinstance(content, dict):
            return nothing
        message = KernelMessage(header, parent, metadata, content, tuple(parts[4:]))
        return Relayed(message, received.size_bytes)

    def close(self) -> None:
        """Hang up."""
        self._shell.close()
        self._iopub.close()


def _channel(connection: Connection, port: int, kind: SocketType) -> Channel:
    container = connection.container
    return Channel(container.host, container.ports[port], kind, connection.seal)


def _packed(session: Session, message: KernelMessage) -> list[bytes]:
    """The frames of a message, signed."""
    parts = {
        "header": message.header,
        "parent_header": message.parent_header,
        "metadata": message.metadata,
        "content": message.content,
    }
    return [*session.serialize(parts), *message.buffers]


def _opened(session: Session, frames: list[bytes]) -> list[bytes]:
    """Header, parent header, metadata, content and buffers. Raises `ValueError`: it is not signed so."""
    after = frames.index(DELIM) + 1
    signature, *parts = frames[after:]
    if len(parts) < _PARTS or not hmac.compare_digest(session.sign(parts[:_PARTS]), signature):
        raise ValueError("not a signed message")
    if len(parts[0]) + len(parts[1]) > _HEADER_BYTES:
        raise ValueError("a header that is too large")
    return parts


def _object(text: bytes) -> JsonObject:
    """A JSON object. Raises `ValueError`: it is none."""
    value = parse(text).value
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


async def _parse_content(content: bytes) -> Plain:
    if len(content) < _LARGE_BYTES:
        return parse(content)
    return await asyncio.to_thread(parse, content)
