"""The two forms of frames, compared with Jupyter's own implementations."""

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_server.services.kernels.connection.base import (
    deserialize_binary_message,
    deserialize_msg_from_ws_v1,
    serialize_binary_message,
    serialize_msg_to_ws_v1,
)

from service.gateway import frames
from service.gateway.frames import MalformedFrame
from sessions.models import KernelMessage

HEADER = {
    "msg_id": "1",
    "msg_type": "comm_msg",
    "session": "s",
    "username": "ada",
    "date": "2026-01-01T00:00:00Z",
    "version": "5.3",
}
MESSAGE = KernelMessage(
    HEADER, {"msg_id": "0"}, {"a": 1}, {"data": "ünï", "n": [1, 2.5]}, (b"\xff\0", b"", b"abc")
)
NAMES = ("header", "parent_header", "metadata", "content")


def fields(message: KernelMessage) -> dict[str, Any]:
    """Return the parts of a message as Jupyter's code has them."""
    return {name: getattr(message, name) for name in NAMES}


def encoded(message: KernelMessage) -> list[bytes]:
    """Return the four JSON parts and the buffers of a message."""
    return [*(json.dumps(part).encode() for part in fields(message).values()), *message.buffers]


def sent(frame: frames.ClientFrame) -> str | bytes:
    """Return the payload of a frame, as a client receives it."""
    payload = b"".join(frame.pieces)
    return payload.decode() if frame.is_text else payload


@pytest.mark.parametrize("buffers", [(), (b"",), (b"\xff" * 300, b"x")])
def test_jupyter_decodes_v1_frames(buffers: tuple[bytes, ...]) -> None:
    """Channel, parts and buffers are those of the message."""
    message = KernelMessage(HEADER, {}, {}, {"text": "ü"}, buffers)
    channel, parts = deserialize_msg_from_ws_v1(sent(frames.to_v1(frames.encode("iopub", message))))
    assert channel == "iopub"
    assert [json.loads(part) for part in parts[:4]] == list(fields(message).values())
    assert tuple(parts[4:]) == buffers


def test_v1_frames_of_jupyter_are_decoded() -> None:
    """The decoded message equals the original."""
    frame = serialize_msg_to_ws_v1(encoded(MESSAGE), "shell")
    assert frames.from_v1(frame) == ("shell", MESSAGE)


def test_v1_frames_equal_those_of_jupyter() -> None:
    """Both implementations make the same frame of the same JSON."""
    message = frames.encode("shell", MESSAGE)
    frame = serialize_msg_to_ws_v1([*message.message.parts, *MESSAGE.buffers], "shell")
    assert sent(frames.to_v1(message)) == frame


def test_jupyter_decodes_binary_default_frames() -> None:
    """In the default form, a message with buffers is a binary frame."""
    frame = sent(frames.to_default(frames.encode("iopub", MESSAGE)))
    assert isinstance(frame, bytes)
    read = deserialize_binary_message(frame)
    assert (read["channel"], read["content"], read["metadata"]) == (
        "iopub",
        MESSAGE.content,
        MESSAGE.metadata,
    )
    assert (read["msg_id"], read["msg_type"]) == ("1", "comm_msg")
    assert tuple(bytes(buffer) for buffer in read["buffers"]) == MESSAGE.buffers


def test_binary_default_frames_of_jupyter_are_decoded() -> None:
    """The decoded message equals the original."""
    frame = serialize_binary_message(
        {**fields(MESSAGE), "channel": "shell", "buffers": list(MESSAGE.buffers)}
    )
    assert frames.from_default(frame, is_text=False) == ("shell", MESSAGE)


@pytest.mark.parametrize("buffers", [(), (b"\xff",)])
def test_text_frames_are_json_without_buffers(buffers: tuple[bytes, ...]) -> None:
    """A client that accepts no binary frames gets the message without its buffers."""
    message = KernelMessage(HEADER, {}, {}, {"text": "ü\u2028"}, buffers)
    frame = sent(frames.to_default(frames.encode("iopub", message), binary=False))
    assert isinstance(frame, str)
    read = json.loads(frame)
    assert read == {
        **fields(message),
        "channel": "iopub",
        "msg_id": "1",
        "msg_type": "comm_msg",
        "buffers": [],
    }
    sent_back = frames.from_default(frame.encode(), is_text=True)
    assert sent_back == ("iopub", KernelMessage(HEADER, {}, {}, message.content))


def test_message_without_a_channel_is_for_the_shell_channel() -> None:
    """Jupyter's own server does the same."""
    assert frames.from_default(json.dumps(fields(MESSAGE)).encode(), is_text=True)[0] == "shell"


def test_header_has_the_standard_fields_only() -> None:
    """Dates that are numbers, as some clients send them, are replaced. Unknown fields are removed."""
    header = {"msg_id": "7", "msg_type": "execute_request", "date": 1.5, "more": {"x": 1}}
    _, message = frames.from_default(json.dumps({"header": header}).encode(), is_text=True)
    assert message.header["msg_id"] == "7"
    assert isinstance(message.header["date"], str)
    assert set(message.header) == set(HEADER)


BAD_TEXT = [
    "",
    "no json",
    "[]",
    "null",
    '{"header": []}',
    '{"header": {}}',
    '{"header": {"msg_id": "1"}}',
    '{"header": {"msg_id": 1, "msg_type": "x"}}',
    '{"header": {"msg_id": "", "msg_type": "x"}}',
    '{"header": {"msg_id": "1", "msg_type": "x"}, "content": 3}',
    '{"header": {"msg_id": "1", "msg_type": "x"}, "channel": 3}',
    '{"header": {"msg_id": "%s", "msg_type": "x"}}' % ("1" * 1000),
    "[" * 100_000,
    '{"header": {"msg_id": "1", "msg_type": "x"}, "content": {"a": [%s0]}}' % ("[]," * 600_000),
]


@pytest.mark.parametrize("text", BAD_TEXT, ids=range(len(BAD_TEXT)))
def test_text_frame_without_a_valid_message_is_malformed(text: str) -> None:
    """All kinds of invalid text raise the same error."""
    with pytest.raises(MalformedFrame):
        frames.from_default(text.encode(), is_text=True)


BAD_V1 = [
    b"",
    b"\0" * 7,
    struct.pack("<Q", 0),
    struct.pack("<Q", 1 << 63),
    struct.pack("<3Q", 2, 24, 25),
    struct.pack("<3Q", 2, 25, 24),
    struct.pack("<7Q", 6, 56, 56, 56, 56, 56, 56),
    struct.pack("<7Q", 6, 0, 8, 16, 24, 32, 40),
    struct.pack("<7Q", 6, 56, 56, 56, 56, 56, 1 << 60),
    serialize_msg_to_ws_v1([b"{}", b"{}", b"{}", b"{}"], "shell"),
    serialize_msg_to_ws_v1([b"\xff", b"{}", b"{}", b"{}"], "shell"),
    serialize_msg_to_ws_v1(encoded(MESSAGE), "shell")[:-1],
]


@pytest.mark.parametrize("frame", BAD_V1, ids=range(len(BAD_V1)))
def test_binary_frame_without_a_valid_message_is_malformed(frame: bytes) -> None:
    """Invalid offsets and invalid JSON raise the same error."""
    with pytest.raises(MalformedFrame):
        frames.from_v1(frame)


@given(st.binary(max_size=200))
def test_random_bytes_are_malformed(frame: bytes) -> None:
    """No other error is raised, in either form."""
    with pytest.raises(MalformedFrame):
        frames.from_v1(frame)
    for is_text in (True, False):
        with pytest.raises(MalformedFrame):
            frames.from_default(frame, is_text=is_text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
        ),
        max_leaves=10,
    ),
    st.lists(st.binary(max_size=20), max_size=3),
)
def test_messages_survive_encoding_and_decoding_in_both_forms(value: Any, buffers: list[bytes]) -> None:
    """The decoded message equals the original."""
    message = KernelMessage(HEADER, {"msg_id": "0"}, {}, {"value": value}, tuple(buffers))
    encoded = frames.encode("shell", message)
    v1 = sent(frames.to_v1(encoded))
    assert isinstance(v1, bytes)
    assert frames.from_v1(v1) == ("shell", message)
    default = frames.to_default(encoded)
    assert frames.from_default(b"".join(default.pieces), is_text=default.is_text) == ("shell", message)
