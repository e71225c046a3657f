"""A WebSocket to a kernel's channels, as a notebook has. Jupyter's own code encodes and decodes frames."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jupyter_server.services.kernels.connection.base import (
    deserialize_binary_message,
    deserialize_msg_from_ws_v1,
    serialize_binary_message,
    serialize_msg_to_ws_v1,
)
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.support.process import Service

V1 = Subprotocol("v1.kernel.websocket.jupyter.org")
WAIT_SEC = 60.0
Message = dict[str, Any]


def pack(value: Any) -> bytes:
    """Return JSON as Jupyter's own server encodes it."""
    return json.dumps(value).encode()


@dataclass
class Outcome:
    """One request: its reply, and all messages on iopub and stdin that belong to it, in order."""

    reply: Message
    messages: list[Message] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The status in the reply."""
        return str(self.reply["content"]["status"])

    @property
    def kinds(self) -> list[str]:
        """Types of the messages without statuses; consecutive `stream` messages count as one."""
        kinds = [message["header"]["msg_type"] for message in self.messages if not is_status(message)]
        # Text may be cut into any number of messages.
        return [kind for at, kind in enumerate(kinds) if kind != "stream" or kinds[at - 1 : at] != ["stream"]]

    @property
    def transcript(self) -> str:
        """All text and all plain-text displays, each display in angle brackets, in order."""
        parts = []
        for message in self.messages:
            match message["header"]["msg_type"]:
                case "stream":
                    parts.append(message["content"]["text"])
                case "display_data":
                    parts.append(f"<{message['content']['data']['text/plain']}>")
        return "".join(parts)

    @property
    def text(self) -> str:
        """The text of both streams."""
        return "".join(m["content"]["text"] for m in self.of("stream"))

    def of(self, kind: str) -> list[Message]:
        """Return the messages of a type."""
        return [message for message in self.messages if message["header"]["msg_type"] == kind]

    def data(self, kind: str = "execute_result") -> Message:
        """Return the MIME bundle of the only message of that type."""
        (message,) = self.of(kind)
        data: Message = message["content"]["data"]
        return data


def is_status(message: Message, state: str | None = None) -> bool:
    """Return whether a message is a status of the kernel, or this status."""
    is_one = message["header"]["msg_type"] == "status"
    return is_one and state in (None, message["content"]["execution_state"])


class Channels:
    """An open WebSocket."""

    def __init__(self, socket: ClientConnection, session_id: str) -> None:
        self.socket = socket
        self.session_id = session_id
        self.frames: list[str | bytes] = []
        """All frames that were received."""

    @property
    def is_v1(self) -> bool:
        """Whether the v1 form was agreed on."""
        return self.socket.subprotocol == V1

    def message(self, kind: str, content: Message, message_id: str = "") -> Message:
        """Return a new message."""
        header = {
            "msg_id": message_id or uuid.uuid4().hex,
            "msg_type": kind,
            "session": self.session_id,
            "username": "ada",
            "date": "2026-01-01T00:00:00.000000Z",
            "version": "5.3",
        }
        return {"header": header, "parent_header": {}, "metadata": {}, "content": content}

    def send(
        self,
        kind: str,
        content: Message,
        channel: str = "shell",
        *,
        buffers: tuple[bytes, ...] = (),
        message_id: str = "",
    ) -> str:
        """Send a message and return its id."""
        message = self.message(kind, content, message_id)
        if self.is_v1:
            parts = [pack(message[name]) for name in ("header", "parent_header", "metadata", "content")]
            self.socket.send(serialize_msg_to_ws_v1([*parts, *buffers], channel))
        elif buffers:
            self.socket.send(serialize_binary_message({**message, "channel": channel, "buffers": buffers}))
        else:
            self.socket.send(json.dumps({**message, "channel": channel}))
        return str(message["header"]["msg_id"])

    def receive(self, seconds: float = WAIT_SEC) -> Message:
        """Receive the next message. Raises ``TimeoutError``."""
        frame = self.socket.recv(timeout=max(0.01, seconds))
        self.frames.append(frame)
        if self.is_v1:
            assert isinstance(frame, bytes)
            channel, parts = deserialize_msg_from_ws_v1(frame)
            names = ("header", "parent_header", "metadata", "content")
            message = {name: json.loads(part) for name, part in zip(names, parts, strict=False)}
            return {**message, "channel": channel, "buffers": parts[4:]}
        found: Message = json.loads(frame) if isinstance(frame, str) else deserialize_binary_message(frame)
        assert found["msg_id"] == found["header"]["msg_id"]
        assert found["msg_type"] == found["header"]["msg_type"]
        return found

    def until(self, is_it: Callable[[Message], bool], seconds: float = WAIT_SEC) -> Message:
        """Receive messages up to one that satisfies the condition, and return that one."""
        deadline = time.monotonic() + seconds
        while not is_it(message := self.receive(deadline - time.monotonic())):
            pass
        return message

    def until_kind(self, kind: str, seconds: float = WAIT_SEC) -> Message:
        """Receive messages up to one of that type, and return it."""
        return self.until(lambda message: message["header"]["msg_type"] == kind, seconds)

    def reply(self, message_id: str) -> Message:
        """Receive messages up to the reply to a request, and return it."""
        return self.until(
            lambda message: (
                message["parent_header"].get("msg_id") == message_id and message["channel"] != "iopub"
            )
        )

    def outcome(
        self, message_id: str, answer: str | None = None, seconds: float = WAIT_SEC, *, replies: bool = True
    ) -> Outcome:
        """Receive the messages of a request up to its reply and the idle status.

        Args:
            message_id: id of the request.
            answer: the answer to a request for input.
            seconds: time limit.
            replies: whether the request gets a reply.
        """
        messages: list[Message] = []
        reply: Message = {}
        is_idle = False
        deadline = time.monotonic() + seconds
        while not (is_idle and (reply or not replies)):
            message = self.receive(deadline - time.monotonic())
            if message["parent_header"].get("msg_id") != message_id:
                continue
            if message["channel"] == "iopub":
                messages.append(message)
                is_idle = is_idle or is_status(message, "idle")
            elif message["header"]["msg_type"] == "input_request":
                assert message["channel"] == "stdin"
                assert answer is not None, "the code requests input"
                messages.append(message)
                self.send("input_reply", {"value": answer}, "stdin")
            else:
                reply = message
        return Outcome(reply, messages)

    def begin(self, code: str, **fields: Any) -> str:
        """Send an `execute_request` and return its id."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": True,
            "stop_on_error": True,
        }
        return self.send("execute_request", content | fields)

    def run(self, code: str, answer: str | None = None, **fields: Any) -> Outcome:
        """Run a cell and wait for its end."""
        return self.outcome(self.begin(code, **fields), answer)

    def sync(self) -> None:
        """Wait until the service has read all messages that were sent so far."""
        self.reply(self.send("debug_request", {}, "control"))

    def ask(self, kind: str, channel: str = "shell", **content: Any) -> Message:
        """Send a request and return the content of its reply."""
        reply = self.outcome(self.send(f"{kind}_request", content, channel)).reply
        assert reply["header"]["msg_type"] == f"{kind}_reply"
        assert reply["channel"] == channel
        found: Message = reply["content"]
        return found


def address(service: Service, kernel_id: str, query: str = "") -> str:
    """Return the address of a kernel's channels."""
    return f"{service.base_url.replace('http', 'ws', 1)}/api/kernels/{kernel_id}/channels{query}"


@contextmanager
def open_channels(
    service: Service,
    kernel_id: str,
    *,
    v1: bool = False,
    session_id: str | None = None,
    headers: dict[str, str] | None = None,
) -> Iterator[Channels]:
    """Open a WebSocket for the duration of the block."""
    name = session_id or uuid.uuid4().hex
    with connect(
        address(service, kernel_id, f"?session_id={name}"),
        subprotocols=[V1] if v1 else None,
        additional_headers=headers,
        max_size=None,
        open_timeout=WAIT_SEC,
        close_timeout=2,
        proxy=None,
    ) as socket:
        yield Channels(socket, name)
