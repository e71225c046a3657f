"""The gateway's parts by themselves: what is kept for a client, marks, shapes, the order, the guard."""

import asyncio
import itertools
from typing import Any

import pytest
from starlette.types import Message, Scope

from kernel_image import contract
from service.auth.keyring import Keyring
from service.auth.limits import RequestRate
from service.gateway import replies, shapes, wire
from service.gateway.order import Order
from service.gateway.outbox import Outbox
from service.http.guard import Guard
from sessions.kernels.marks import MarkFinder
from sessions.models import JsonObject, KernelMessage, Stream

MEGABYTE = 1 << 20


# What is kept for a client


def message(kind: str, size: int = 0, parent: JsonObject | None = None) -> wire.Packed:
    """A message of about that size."""
    header = {"msg_id": "m", "msg_type": kind}
    return wire.pack("iopub", KernelMessage(header, parent or {}, {}, {"x": "y" * size}))


def text_message(stream: Stream, text: str, parent: JsonObject) -> wire.Packed:
    """A message of text."""
    header = {"msg_id": "m", "msg_type": "stream"}
    return wire.pack("iopub", KernelMessage(header, parent, {}, {"name": stream, "text": text}))


@pytest.fixture
async def outbox() -> Outbox:
    """An empty one."""
    return Outbox(text_message)


async def rest(outbox: Outbox) -> list[KernelMessage]:
    """All that is left in it."""
    outbox.close()
    taken = []
    while (packed := await outbox.get()) is not None:
        taken.append(packed.message)
    return taken


async def test_text_is_gathered_until_something_else_comes(outbox: Outbox) -> None:
    """Of one stream and one request; what is between stays between."""
    one: JsonObject = {"msg_id": "1"}
    two: JsonObject = {"msg_id": "2"}
    for parent, stream, text in (
        (one, "stdout", "a"),
        (one, "stdout", "b"),
        (one, "stderr", "c"),
        (two, "stderr", "d"),
    ):
        outbox.put_text("stdout" if stream == "stdout" else "stderr", text, parent)
    outbox.put(message("display_data"))
    outbox.put_text("stderr", "e", two)
    taken = await rest(outbox)
    assert [part.content.get("text") for part in taken] == ["ab", "c", "d", None, "e"]


async def test_what_is_too_much_is_left_out_and_said_to_be(outbox: Outbox) -> None:
    """Once; replies and states are kept, and later there is room again."""
    for _ in range(20):
        outbox.put(message("display_data", MEGABYTE, {"msg_id": "1"}))
    outbox.put_text("stdout", "x" * MEGABYTE, {"msg_id": "1"})
    outbox.put(message("execute_reply"))
    outbox.put(message("status"))
    taken = await rest(outbox)
    kinds = [part.kind for part in taken]
    assert kinds == ["display_data"] * kinds.count("display_data") + ["stream", "execute_reply", "status"]
    assert 6 <= kinds.count("display_data") <= 8
    assert "left out" in taken[-3].content["text"]
    outbox.put(message("display_data", MEGABYTE))
    assert [part.kind for part in await rest(outbox)] == ["display_data"]


async def test_one_message_may_be_larger_than_all_room(outbox: Outbox) -> None:
    """If nothing else waits."""
    outbox.put(message("display_data", 12 * MEGABYTE))
    outbox.put(message("display_data"))
    assert [part.kind for part in await rest(outbox)] == ["display_data", "stream"]


async def test_messages_are_counted_too(outbox: Outbox) -> None:
    """Small ones without end are left out, and even replies in the end."""
    for _ in range(30_000):
        outbox.put(message("comm_msg"))
        outbox.put(message("status"))
    assert len(await rest(outbox)) <= 20_001


async def test_who_waits_gets_what_comes(outbox: Outbox) -> None:
    """And what could not be sent is first again."""
    waiting = asyncio.ensure_future(outbox.get())
    await asyncio.sleep(0)
    outbox.put(message("status"))
    packed = await waiting
    assert packed is not None
    outbox.put(message("error"))
    outbox.put_back(packed)
    assert [part.kind for part in await rest(outbox)] == ["status", "error"]


# Marks


TOKEN = contract.mark_token("key")


def mark(name: str) -> bytes:
    """A mark as the kernel writes it."""
    return contract.MARK_BEGIN + TOKEN + name.encode() + contract.MARK_END


def found(*pieces: bytes) -> list[bytes | str]:
    """Text and marks, neighbouring text joined."""
    finder = MarkFinder("key")
    parts: list[bytes | str] = list(itertools.chain.from_iterable(finder.feed(piece) for piece in pieces))
    parts.append(finder.rest())
    joined: list[bytes | str] = []
    for part in parts:
        if isinstance(part, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += part
        elif part:
            joined.append(part)
    return joined


def test_marks_are_found_wherever_the_text_is_cut() -> None:
    """In one piece, in two at any place, byte by byte."""
    text = b"a" + mark("1") + mark("2") + b"b\x1ec" + mark("3") + b"d"
    expected = [b"a", "1", "2", b"b\x1ec", "3", b"d"]
    assert found(text) == expected
    assert found(*(text[at : at + 1] for at in range(len(text)))) == expected
    for at in range(len(text)):
        assert found(text[:at], text[at:]) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x1e",
        b"\x1e" * 50,
        b"\x1e" + TOKEN[:5],
        b"\x1e" + TOKEN,
        b"\x1e" + TOKEN + b"x" * 500,
        b"\x1f\x1e\x1f",
    ],
)
def test_what_is_no_mark_is_text(text: bytes) -> None:
    """Nothing of it is lost, also where it begins as a mark does."""
    assert b"".join(part for part in found(text) if isinstance(part, bytes)) == text


# Shapes and replies


def published(kind: str, content: dict[str, Any], **header: Any) -> KernelMessage | None:
    """What clients get of a message."""
    return shapes.published(KernelMessage({"msg_id": "m", "msg_type": kind, **header}, {}, {}, content))


def test_messages_have_the_fields_of_their_kind() -> None:
    """Or clients do not get them; headers are made whole."""
    whole = published("stream", {"name": "stdout", "text": "x"}, more=[1], date=5)
    assert whole is not None
    assert set(whole.header) == {"msg_id", "msg_type", "session", "username", "date", "version"}
    assert published("status", {"execution_state": "busy"})
    assert published("execute_result", {"data": {}, "metadata": {}, "execution_count": True}) is None
    assert published("display_data", {"data": [], "metadata": {}}) is None
    assert published("comm_msg", {"comm_id": 5, "data": {}}) is None
    assert published("stream", {"name": "stdout"}) is None
    assert published("execute_reply", {"status": "ok"}) is None
    assert published("status", {"execution_state": "busy"}, msg_id="x" * 300) is None


def test_a_kernels_reply_is_believed_in_nothing_but_its_extras() -> None:
    """And those have to be of their types."""
    asked = replies.asked(KernelMessage({}, content={"user_expressions": [1], "code": "x"}), silent=True)
    assert asked.content == {"silent": True, "user_expressions": {}}
    failed = replies.failed("Name", "value")
    assert failed == {"status": "error", "ename": "Name", "evalue": "value", "traceback": ["Name: value"]}


# The order of text and messages


async def test_text_and_messages_wait_for_each_other() -> None:
    """A message for the text before it, text for the message before it."""
    order_of = Order()
    order: list[str] = []

    async def tell_messages() -> None:
        await order_of.text_before("m")
        order.append("message")
        order_of.told("m")

    async def tell_text() -> None:
        await asyncio.sleep(0.05)
        order.append("before")
        await order_of.mark("m")
        order.append("after")

    await asyncio.gather(tell_messages(), tell_text())
    assert order == ["before", "message", "after"]


async def test_a_message_that_overtakes_another_holds_up_nothing() -> None:
    """Two threads may write their marks in one order and publish in the other."""
    order_of = Order()

    async def tell_messages() -> None:
        for name in ("k_2", "k_1"):
            await order_of.text_before(name)
            order_of.told(name)

    async def tell_text() -> None:
        for name in ("k_1", "k_2"):
            await order_of.mark(name)

    async with asyncio.timeout(0.9):
        await asyncio.gather(tell_messages(), tell_text())


async def test_a_message_of_before_that_has_no_mark_lets_no_text_pass() -> None:
    """It is told at once, since what the text waits for was made later, and the text goes on waiting."""
    order_of = Order()
    text = asyncio.create_task(order_of.mark("k_7"))
    await asyncio.sleep(0)
    async with asyncio.timeout(0.5):
        await order_of.text_before("k_6")
    order_of.told("k_6")
    await asyncio.sleep(0)
    assert not text.done()
    async with asyncio.timeout(0.5):
        await order_of.text_before("k_7")
        order_of.told("k_7")
        await text


async def test_without_marks_nobody_waits_for_long() -> None:
    """After a few messages in vain it is plain that there are none."""
    order_of = Order()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(1000):
        await order_of.text_before(str(number))
        order_of.told(str(number))
    assert loop.time() - began < 5


# The guard


async def test_every_websocket_needs_a_key_whatever_its_path() -> None:
    """Also one with the path of an open page: what is open is open for requests."""

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        raise AssertionError("it came in")

    async def nothing() -> Message:
        raise AssertionError("nobody is listened to")

    guard = Guard(app, Keyring({"ada": "k" * 32}, None), RequestRate(0), ("docs", "metrics"))
    for path in ("/health", "/docs", "/api/kernels/x/channels", "/v1/files"):
        sent: list[Message] = []

        async def send(told: Message, sent: list[Message] = sent) -> None:
            sent.append(told)

        scope: Scope = {
            "type": "websocket",
            "path": path,
            "headers": [],
            "query_string": b"",
            "extensions": {},
        }
        await guard(scope, nothing, send)
        assert sent[0]["type"] == "websocket.http.response.start"
        assert sent[0]["status"] == 401
