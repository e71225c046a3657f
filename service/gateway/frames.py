"""Encoding and decoding of WebSocket frames, each of which carries one Jupyter message. Pure: no I/O.

Jupyter has two forms of frames. In the default form a message is a JSON object in a text frame. If the
message has buffers, the frame is binary and begins with the offsets of its parts. The form
`v1.kernel.websocket.jupyter.org` is always binary.
https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from typing import Any, Final

from sessions.kernels.plain_json import parse
from sessions.models import JsonObject, KernelMessage, PackedMessage

LARGE_BYTES: Final = 1 << 18
"""Larger messages are decoded in a thread, so that they do not block the event loop."""
V1: Final = "v1.kernel.websocket.jupyter.org"
"""Name of the WebSocket subprotocol."""

_PROTOCOL: Final = "5.3"
"""Version of Jupyter's messaging protocol."""
_MAX_PARTS: Final = 1000
_MAX_VALUES: Final = 200_000
"""Values in the JSON of one frame or part of a frame. Their objects take about 15 MB."""
_MAX_FIELD_CHARACTERS: Final = 256
_HEADER_FIELDS: Final = ("msg_id", "msg_type", "session", "username", "date", "version")
_PARTS: Final = ("header", "parent_header", "metadata", "content")
_V1_OFFSET_BYTES: Final = 8
_DEFAULT_OFFSET_BYTES: Final = 4


class MalformedFrame(Exception):
    """A frame does not contain a valid message; the text says why."""


@dataclass(frozen=True, eq=False)
class EncodedMessage:
    """A message for clients, encoded once for all clients that receive it.

    Attributes:
        channel: name of the Jupyter channel: shell, iopub, stdin or control.
        message: the message.
    """

    channel: str
    message: PackedMessage

    @property
    def size_bytes(self) -> int:
        """Size of the message in bytes."""
        return self.message.size_bytes

    @property
    def parent_header(self) -> JsonObject:
        """Header of the request that caused the message; empty without one."""
        parent: JsonObject = json.loads(self.message.parts[1])
        return parent


@dataclass(frozen=True)
class ClientFrame:
    """A frame for a client, in pieces. Frames of the same message share the large pieces.

    Attributes:
        pieces: the payload; in a text frame it is UTF-8.
        is_text: whether it is a text frame, not a binary one.
    """

    pieces: tuple[bytes, ...]
    is_text: bool = False


def encode(channel: str, message: KernelMessage) -> EncodedMessage:
    """Encode a message for clients."""
    return EncodedMessage(channel, message.packed())


def to_v1(encoded: EncodedMessage) -> ClientFrame:
    """Return the message as a frame of the v1 form."""
    parts = (encoded.channel.encode(), *encoded.message.parts, *encoded.message.buffers)
    # The frame begins with the number of offsets, then has one offset for each part and one for the end.
    offsets = _offsets_of(map(len, parts), _V1_OFFSET_BYTES * (len(parts) + 2))
    return ClientFrame((struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets), *parts))


def from_v1(frame: bytes) -> tuple[str, KernelMessage]:
    """Return the channel and the message of a frame of the v1 form. Raises `MalformedFrame`."""
    offsets = _read_offsets(frame, "<Q", _V1_OFFSET_BYTES)
    channel, *parts = (frame[start:end] for start, end in pairwise(offsets))
    if len(parts) < len(_PARTS):
        raise MalformedFrame("header, parent header, metadata or content is missing")
    values = [_parse(part) for part in parts[: len(_PARTS)]]
    return channel.decode("utf-8", "replace"), _message(values, parts[len(_PARTS) :])


def to_default(encoded: EncodedMessage, *, binary: bool = True) -> ClientFrame:
    """Return the message as a frame of the default form.

    Args:
        encoded: the message.
        binary: whether the client accepts binary frames. If not, buffers are left out.
    """
    message = encoded.message
    buffers = message.buffers if binary else ()
    pieces: list[bytes] = []
    for name, part in zip(_PARTS, message.parts, strict=True):
        pieces += (b'%s"%s":' % (b"," if pieces else b"{", name.encode()), part)
    names = {"channel": encoded.channel, "msg_id": message.message_id, "msg_type": message.kind}
    pieces.append(b"," + _json(names)[1:-1])
    if not buffers:
        return ClientFrame((*pieces, b',"buffers":[]}'), is_text=True)
    pieces.append(b"}")
    parts_bytes = (sum(map(len, pieces)), *map(len, buffers))
    starts = _offsets_of(parts_bytes, _DEFAULT_OFFSET_BYTES * (len(parts_bytes) + 1))[:-1]
    return ClientFrame((struct.pack(f"!{len(starts) + 1}I", len(starts), *starts), *pieces, *buffers))


def from_default(frame: bytes, *, is_text: bool) -> tuple[str, KernelMessage]:
    """Return the channel and the message of a frame of the default form. Raises `MalformedFrame`."""
    if is_text:
        text, buffers = frame, []
    else:
        starts = [*_read_offsets(frame, "!I", _DEFAULT_OFFSET_BYTES), len(frame)]
        text, *buffers = (frame[start:end] for start, end in pairwise(starts))
    fields = _parse(text)
    channel = fields.get("channel", "shell")
    if not isinstance(channel, str):
        raise MalformedFrame("the channel is not a string")
    return channel, _message([fields.get(name, {}) for name in _PARTS], buffers)


def new_header(kind: str, session: str, message_id: str) -> JsonObject:
    """Return the header of a message that the gateway itself sends."""
    return {
        "msg_id": message_id,
        "msg_type": kind,
        "session": session,
        "username": "code-interpreter",
        "date": datetime.now(UTC).isoformat(),
        "version": _PROTOCOL,
    }


def sanitized_header(given: JsonObject) -> JsonObject | None:
    """Return a header with the standard fields only, each of them a short string.

    Missing fields are added. Returns None if the id or the type is missing, or if a field is too long.
    """
    kept = {name: given[name] for name in _HEADER_FIELDS if isinstance(given.get(name), str)}
    if not kept.get("msg_id") or not kept.get("msg_type"):
        return None
    if any(len(value) > _MAX_FIELD_CHARACTERS for value in kept.values()):
        return None
    return new_header(kept["msg_type"], "", kept["msg_id"]) | kept


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _offsets_of(sizes: Iterable[int], first: int) -> list[int]:
    """Return the offset at which each part begins, and the offset of the end; `first` is the first one."""
    return list(accumulate(sizes, initial=first))


def _read_offsets(frame: bytes, offset_format: str, offset_bytes: int) -> list[int]:
    """Return the offsets at the start of a frame. Raises `MalformedFrame` if they are not valid."""
    if len(frame) < offset_bytes:
        raise MalformedFrame("the frame is too short")
    (count,) = struct.unpack_from(offset_format, frame)
    begin = offset_bytes * (count + 1)
    if not 0 < count <= _MAX_PARTS or len(frame) < begin:
        raise MalformedFrame("the frame has no parts or too many")
    offsets = [struct.unpack_from(offset_format, frame, offset_bytes * (at + 1))[0] for at in range(count)]
    if offsets[0] < begin or offsets[-1] > len(frame) or offsets != sorted(offsets):
        raise MalformedFrame("the offsets of the parts are out of order or outside the frame")
    return offsets


def _parse(text: bytes) -> JsonObject:
    try:
        value = parse(text, max_values=_MAX_VALUES).value
    except (ValueError, RecursionError):
        raise MalformedFrame("the JSON is invalid or too large") from None
    if not isinstance(value, dict):
        raise MalformedFrame("the JSON is not an object")
    return value


def _message(values: list[Any], buffers: list[bytes]) -> KernelMessage:
    if not all(isinstance(value, dict) for value in values):
        raise MalformedFrame("header, parent header, metadata or content is not an object")
    given, parent, metadata, content = values
    header = sanitized_header(given)
    if header is None:
        raise MalformedFrame("the header is too large, or has no msg_id or no msg_type")
    return KernelMessage(header, parent, metadata, content, tuple(buffers))
