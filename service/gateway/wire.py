"""The two forms in which messages of a kernel travel over a WebSocket. Pure: no I/O.

The default form is a JSON object in a text frame or, with buffers, a binary frame that begins with where
its parts are. `v1.kernel.websocket.jupyter.org` is always binary.
https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from sessions.kernels.plain_json import parse
from sessions.models import JsonObject, KernelMessage

V1: Final = "v1.kernel.websocket.jupyter.org"

_PROTOCOL: Final = "5.3"
_MOST_PARTS: Final = 1000
_ID_CHARACTERS: Final = 256
_TEXT_FIELDS: Final = ("msg_id", "msg_type", "session", "username", "date", "version")
_PARTS: Final = ("header", "parent_header", "metadata", "content")
_V1_WORD: Final = 8
_DEFAULT_WORD: Final = 4


class Malformed(Exception):
    """A frame that is no message; the text says why."""


@dataclass(frozen=True)
class Packed:
    """A message for clients, its JSON made: header, parent header, metadata, content."""

    channel: str
    message: KernelMessage
    parts: tuple[bytes, ...]

    @property
    def size_bytes(self) -> int:
        """About the bytes it takes to keep it."""
        return sum(map(len, self.parts)) + sum(map(len, self.message.buffers))


def pack(channel: str, message: KernelMessage) -> Packed:
    """Make the JSON of a message."""
    parts = (message.header, message.parent_header, message.metadata, message.content)
    return Packed(channel, message, tuple(_json(part) for part in parts))


def to_v1(packed: Packed) -> bytes:
    """The binary frame of a message."""
    parts = [packed.channel.encode(), *packed.parts, *packed.message.buffers]
    # As many as there are parts, the first offset, and their number.
    ends = _ends(_V1_WORD * (len(parts) + 2), parts)
    return struct.pack(f"<{len(ends) + 1}Q", len(ends), *ends) + b"".join(parts)


def from_v1(frame: bytes) -> tuple[str, KernelMessage]:
    """Channel and message of a binary frame. Raises `Malformed`."""
    offsets = _offsets(frame, "<Q", _V1_WORD)
    channel, *parts = (frame[start:end] for start, end in pairwise(offsets))
    if len(parts) < len(_PARTS):
        raise Malformed("a frame without header, parent header, metadata and content")
    values = [_parse(part) for part in parts[: len(_PARTS)]]
    return channel.decode("utf-8", "replace"), _message(values, parts[len(_PARTS) :])


def to_default(packed: Packed, *, binary: bool = True) -> str | bytes:
    """The frame of a message. Without `binary` it is text, and buffers are left out."""
    message = packed.message
    buffers = message.buffers if binary else ()
    fields = [b'"%s":%s' % (name.encode(), part) for name, part in zip(_PARTS, packed.parts, strict=True)]
    for name, value in (
        ("channel", packed.channel),
        ("msg_id", message.message_id),
        ("msg_type", message.kind),
    ):
        fields.append(b'"%s":%s' % (name.encode(), _json(value)))
    if not buffers:
        return (b"{%s}" % b",".join([*fields, b'"buffers":[]'])).decode()
    parts = [b"{%s}" % b",".join(fields), *buffers]
    starts = _ends(_DEFAULT_WORD * (len(parts) + 1), parts)[:-1]
    return struct.pack(f"!{len(starts) + 1}I", len(starts), *starts) + b"".join(parts)


def from_default(frame: str | bytes) -> tuple[str, KernelMessage]:
    """Channel and message of a frame, text or binary. Raises `Malformed`."""
    if isinstance(frame, str):
        text, buffers = frame.encode("utf-8", "replace"), []
    else:
        starts = [*_offsets(frame, "!I", _DEFAULT_WORD), len(frame)]
        text, *buffers = (frame[start:end] for start, end in pairwise(starts))
    fields = _parse(text)
    channel = fields.get("channel", "shell")
    if not isinstance(channel, str):
        raise Malformed("a channel that has no name")
    return channel, _message([fields.get(name, {}) for name in _PARTS], buffers)


def header(kind: str, session: str, message_id: str) -> JsonObject:
    """The header of a message of our own."""
    return {
        "msg_id": message_id,
        "msg_type": kind,
        "session": session,
        "username": "code-interpreter",
        "date": datetime.now(UTC).isoformat(),
        "version": _PROTOCOL,
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _ends(start: int, parts: Iterable[bytes]) -> list[int]:
    """Where the first part begins and each ends."""
    offsets = [start]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    return offsets


def _offsets(frame: bytes, word: str, size: int) -> list[int]:
    """The offsets that a frame begins with, in order and inside it. Raises `Malformed`."""
    if len(frame) < size:
        raise Malformed("a frame that is too short")
    (count,) = struct.unpack_from(word, frame)
    begin = size * (count + 1)
    if not 0 < count <= _MOST_PARTS or len(frame) < begin:
        raise Malformed("a frame with too many parts, or none")
    offsets = [struct.unpack_from(word, frame, size * (at + 1))[0] for at in range(count)]
    if offsets[0] < begin or offsets[-1] > len(frame) or offsets != sorted(offsets):
        raise Malformed("a frame whose parts are not where it says")
    return offsets


def _parse(text: bytes) -> JsonObject:
    try:
        value = parse(text).value
    except (ValueError, RecursionError):
        raise Malformed("JSON that can't be read, or is too large") from None
    if not isinstance(value, dict):
        raise Malformed("JSON that is no object")
    return value


def _message(values: list[Any], buffers: list[bytes]) -> KernelMessage:
    if not all(isinstance(value, dict) for value in values):
        raise Malformed("a header, metadata or content that is no object")
    given, parent, metadata, content = values
    plain = plain_header(given)
    if plain is None:
        raise Malformed("a header that is too large, or has no msg_id or msg_type")
    return KernelMessage(plain, parent, metadata, content, tuple(buffers))


def plain_header(given: JsonObject) -> JsonObject | None:
    """A header of text fields, all of them, and nothing else; None if it says too little or too much."""
    plain = {name: given[name] for name in _TEXT_FIELDS if isinstance(given.get(name), str)}
    if not plain.get("msg_id") or not plain.get("msg_type"):
        return None
    if any(len(value) > _ID_CHARACTERS for value in plain.values()):
        return None
    return header(plain["msg_type"], "", plain["msg_id"]) | plain
