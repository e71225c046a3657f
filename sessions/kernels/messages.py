"""Messages of the Jupyter protocol, as frames and as objects. The one module that imports `jupyter_client`.

User code owns the kernel's key, so a valid signature proves nothing: no field of a message is trusted.
Layout: https://jupyter-client.readthedocs.io/en/stable/messaging.html#the-wire-protocol
"""

import asyncio
import hmac
import uuid
from dataclasses import dataclass
from typing import Final

from jupyter_client.session import DELIM, Session

from sessions.kernels.channel import Received
from sessions.kernels.plain_json import Plain, TooManyValues, parse
from sessions.models import JsonObject, KernelMessage, PackedMessage

_HEADER_BYTES: Final = 1 << 16
"""Header and parent header together."""
_LARGE_BYTES: Final = 1 << 18
"""Content of this size is parsed in a thread, so that the event loop is not blocked."""
_PARTS: Final = 4
"""Header, parent header, metadata and content. Buffers follow."""
_MESSAGE_WEIGHT: Final = 512
_VALUE_WEIGHT: Final = 16


@dataclass(frozen=True)
class Message:
    """A message that answers a request; `weight` is its approximate size in memory, in bytes.

    A message that is `too_large` has no content. If nothing of it was read, its kind is empty.
    """

    kind: str
    content: JsonObject
    weight: int
    too_large: bool = False
    message_id: str = ""
    """Empty if nothing of it was read."""

    @property
    def is_idle(self) -> bool:
        """Whether the kernel reports that it has published everything."""
        return self.kind == "status" and self.content.get("execution_state") == "idle"


class MessageCodec:
    """Signs, packs and reads the messages of one kernel."""

    def __init__(self, kernel_key: str) -> None:
        self._session = Session(key=kernel_key.encode(), signature_scheme="hmac-sha256")

    def request(
        self, kind: str, content: JsonObject, metadata: JsonObject | None = None
    ) -> tuple[str, list[bytes]]:
        """Return the id and the frames of a new message.

        The id is random: user code could guess the counter of `Session`, and answer a future request.
        """
        message = self._session.msg(kind, content, metadata=metadata)
        request_id = message["header"]["msg_id"] = message["msg_id"] = uuid.uuid4().hex
        return request_id, self._session.serialize(message)

    def sign(self, message: PackedMessage) -> list[bytes]:
        """Return the frames of a message."""
        return [DELIM, self._session.sign(list(message.parts)), *message.parts, *message.buffers]

    async def read(self, received: Received) -> KernelMessage | None:
        """Return a message; None if it was too large or is invalid."""
        if not received.frames:
            return None
        try:
            parts = self._unpack(received.frames)
            header, parent, metadata = (_object(part) for part in parts[:3])
            if not isinstance(header["msg_type"], str):
                return None
            content = (await _parse_content(parts[3])).value
        except (ValueError, RecursionError, KeyError, TypeError):
            return None
        if not isinstance(content, dict):
            return None
        return KernelMessage(header, parent, metadata, content, tuple(parts[4:]))

    async def read_answer(self, received: Received, request_id: str) -> Message | None:
        """Return a message that answers the request; None if it is invalid or answers another request.

        `Session.deserialize` spends half of its time on dates that this service does not read.
        """
        if not received.frames:
            return Message("", {}, received.size_bytes, too_large=True)
        try:
            header, parent, _, content, *_ = self._unpack(received.frames)
            facts = parse(header).value
            kind, message_id = facts["msg_type"], str(facts.get("msg_id"))
            if parse(parent).value["msg_id"] != request_id or not isinstance(kind, str):
                return None
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return None
        try:
            data = await _parse_content(content)
        except (TooManyValues, RecursionError):
            return Message(kind, {}, received.size_bytes, too_large=True, message_id=message_id)
        except ValueError:
            return None
        if not isinstance(data.value, dict):
            return None
        weight = received.size_bytes + _MESSAGE_WEIGHT + _VALUE_WEIGHT * data.count
        return Message(kind, data.value, weight, message_id=message_id)

    def _unpack(self, frames: list[bytes]) -> list[bytes]:
        """Return header, parent header, metadata, content and buffers.

        Raises:
            ValueError: the signature is wrong, or the headers are too large.
        """
        after = frames.index(DELIM) + 1
        signature, *parts = frames[after:]
        if len(parts) < _PARTS or not hmac.compare_digest(self._session.sign(parts[:_PARTS]), signature):
            raise ValueError("the message is not signed")
        if len(parts[0]) + len(parts[1]) > _HEADER_BYTES:
            raise ValueError("the headers are too large")
        return parts


def _object(text: bytes) -> JsonObject:
    """Parse a JSON object. Raises `ValueError` if it is another value."""
    value = parse(text).value
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


async def _parse_content(content: bytes) -> Plain:
    if len(content) < _LARGE_BYTES:
        return parse(content)
    return await asyncio.to_thread(parse, content)
