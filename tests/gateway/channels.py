"""A socket to a kernel's channels, as a notebook uses it. Frames are read and made by Jupyter's own code."""

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
WAIT_SEC = 30.0
Message = dict[str, Any]


def pack(value: Any) -> bytes:
    """JSON as Jupyter's own server makes it."""
    return json.dumps(value).encode()


@dataclass
class Outcome:
    """What came of one request: its reply, and in order all that was told of it."""

    reply: Message
    told: list[Message] = field(default_factory=list)

    @property
    def status(self) -> str:
        """Of the reply."""
        return str(self.reply["content"]["status"])

    @property
    def kinds(self) -> list[str]:
        """Types of the messages, status left out."""
        return [message["header"]["msg_type"] for message in self.told if not is_status(message)]

    @property
    def text(self) -> str:
        """What was printed, both streams."""
        return "".join(m["content"]["text"] for m in self.of("stream"))

    def of(self, kind: str) -> list[Message]:
        """The messages of a type."""
        return [message for message in self.told if message["header"]["msg_type"] == kind]

    def data(self, kind: str = "execute_result") -> Message:
        """The MIME bundle of the only message of that type."""
        (message,) = self.of(kind)
        data: Message = message["content"]["data"]
        return data


def is_status(message: Message, state: str | None = None) -> bool:
    """Whether a message tells a kernel's status, or that one."""
    is_one = message["header"]["msg_type"] == "status"
    return is_one and state in (None, message["content"]["execution_state"])


class Channels:
    """An open socket."""

    def __init__(self, socket: ClientConnection, session_id: str) -> None:
        self.socket = socket
        self.session_id = session_id
        self.frames: list[str | bytes] = []
        """All that came, as it came."""

    @property
    def is_v1(self) -> bool:
        """Whether the socket speaks the binary protocol."""
        return self.socket.subprotocol == V1

    def message(self, kind: str, content: Message, message_id: str = "") -> Message:
        """A message of ours."""
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
        """Send a message; its id."""
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
        """The next message. Raises ``TimeoutError``."""
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
        """The next message of that kind; those before it are passed over."""
        deadline = time.monotonic() + seconds
        while not is_it(message := self.receive(deadline - time.monotonic())):
            pass
        return message

    def until_kind(self, kind: str, seconds: float = WAIT_SEC) -> Message:
        """The next message of a type."""
        return self.until(lambda message: message["header"]["msg_type"] == kind, seconds)

    def reply(self, message_id: str) -> Message:
        """The next message that belongs to a request, of those that are not for all."""
        return self.until(
            lambda message: (
                message["parent_header"].get("msg_id") == message_id and message["channel"] != "iopub"
            )
        )

    def outcome(
        self, message_id: str, answer: str | None = None, seconds: float = WAIT_SEC, *, replies: bool = True
    ) -> Outcome:
        """All that comes of a request up to its reply and the kernel's idle; `answer` is for what it asks."""
        told: list[Message] = []
        reply: Message = {}
        is_idle = False
        deadline = time.monotonic() + seconds
        while not (is_idle and (reply or not replies)):
            message = self.receive(deadline - time.monotonic())
            if message["parent_header"].get("msg_id") != message_id:
                continue
            if message["channel"] == "iopub":
                told.append(message)
                is_idle = is_idle or is_status(message, "idle")
            elif message["header"]["msg_type"] == "input_request":
                assert message["channel"] == "stdin"
                assert answer is not None, "the code asks"
                told.append(message)
                self.send("input_reply", {"value": answer}, "stdin")
            else:
                reply = message
        return Outcome(reply, told)

    def begin(self, code: str, **fields: Any) -> str:
        """Ask for a cell; the request's id."""
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
        """Run a cell to its end."""
        return self.outcome(self.begin(code, **fields), answer)

    def ask(self, kind: str, channel: str = "shell", **content: Any) -> Message:
        """The content of the reply to a question."""
        reply = self.outcome(self.send(f"{kind}_request", content, channel)).reply
        assert reply["header"]["msg_type"] == f"{kind}_reply"
        assert reply["channel"] == channel
        found: Message = reply["content"]
        return found


def address(service: Service, kernel_id: str, query: str = "") -> str:
    """Where a kernel's channels are."""
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
    """A socket for as long as the block."""
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
