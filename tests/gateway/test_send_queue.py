"""The send queue of a client: text is joined, the queue is bounded, and what is dropped is noted."""

import asyncio
import json

import pytest

from service.gateway.frames import EncodedMessage, encode
from service.gateway.memory import GatewayMemory
from service.gateway.send_queue import SendQueue
from sessions.models import JsonObject, KernelMessage, PackedMessage, Stream

MEGABYTE = 1 << 20


def message(kind: str, size: int = 0, parent: JsonObject | None = None) -> EncodedMessage:
    """Return a message of about `size` bytes."""
    header = {"msg_id": "m", "msg_type": kind}
    return encode("iopub", KernelMessage(header, parent or {}, {}, {"x": "y" * size}))


def stream_message(stream: Stream, text: str, parent: JsonObject) -> EncodedMessage:
    """Return a `stream` message."""
    header = {"msg_id": "m", "msg_type": "stream"}
    return encode("iopub", KernelMessage(header, parent, {}, {"name": stream, "text": text}))


@pytest.fixture
async def queue() -> SendQueue:
    """An empty queue."""
    return SendQueue(stream_message, GatewayMemory(4 * MEGABYTE).for_kernel("default"))


async def rest(queue: SendQueue) -> list[PackedMessage]:
    """Close the queue and return all messages that are left in it."""
    queue.close()
    taken = []
    while (encoded := await queue.get()) is not None:
        taken.append(encoded.message)
    return taken


def content(message: PackedMessage) -> JsonObject:
    """Return the content of a message."""
    found: JsonObject = json.loads(message.parts[-1])
    return found


async def test_queue_joins_text_of_one_stream_and_request(queue: SendQueue) -> None:
    """Another stream, another request or another message starts a new `stream` message."""
    one: JsonObject = {"msg_id": "1"}
    two: JsonObject = {"msg_id": "2"}
    queue.put_text("stdout", "a", one)
    queue.put_text("stdout", "b", one)
    queue.put_text("stderr", "c", one)
    queue.put_text("stderr", "d", two)
    queue.put(message("display_data"))
    queue.put_text("stderr", "e", two)
    taken = await rest(queue)
    assert [content(part).get("text") for part in taken] == ["ab", "c", "d", None, "e"]


async def test_full_queue_drops_messages_and_notes_it_once(queue: SendQueue) -> None:
    """Replies and statuses are kept. Once the queue has been emptied, it accepts messages again."""
    for _ in range(20):
        queue.put(message("display_data", MEGABYTE, {"msg_id": "1"}))
    queue.put_text("stdout", "x" * MEGABYTE, {"msg_id": "1"})
    queue.put(message("execute_reply"))
    queue.put(message("status"))
    taken = await rest(queue)
    kinds = [part.kind for part in taken]
    assert kinds == ["display_data"] * kinds.count("display_data") + ["stream", "execute_reply", "status"]
    assert 6 <= kinds.count("display_data") <= 8
    assert "left out" in content(taken[-3])["text"]
    queue.put(message("display_data", MEGABYTE))
    assert [part.kind for part in await rest(queue)] == ["display_data"]


async def test_empty_queue_accepts_a_message_larger_than_its_limit(queue: SendQueue) -> None:
    """The next message is then dropped."""
    queue.put(message("display_data", 12 * MEGABYTE))
    queue.put(message("display_data"))
    assert [part.kind for part in await rest(queue)] == ["display_data", "stream"]


async def test_queue_limits_the_number_of_messages(queue: SendQueue) -> None:
    """Small messages are dropped, too, and finally even statuses."""
    for _ in range(30_000):
        queue.put(message("comm_msg"))
        queue.put(message("status"))
    assert len(await rest(queue)) <= 20_001


async def test_get_waits_for_a_message_and_put_back_makes_it_the_next(queue: SendQueue) -> None:
    """A message that could not be sent comes before those that were added since."""
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.put(message("status"))
    encoded = await waiting
    assert encoded is not None
    queue.put(message("error"))
    queue.put_back(encoded)
    assert [part.kind for part in await rest(queue)] == ["status", "error"]


async def test_queues_of_a_kernel_hold_a_shared_message_once() -> None:
    """All queues take messages until the kernel's limit is reached by different messages."""
    memory = GatewayMemory(4 * MEGABYTE).for_kernel("default")
    queues = [SendQueue(stream_message, memory) for _ in range(8)]
    for _ in range(7):
        shared = message("display_data", MEGABYTE)
        for queue in queues:
            queue.put(shared)
    del shared
    assert [len(await rest(queue)) for queue in queues] == [7] * 8


async def test_queues_of_an_owner_are_bounded_together() -> None:
    """Messages of other kernels of the owner are dropped. Those of other owners are kept."""
    gateway = GatewayMemory(4 * MEGABYTE)
    queues = [SendQueue(stream_message, gateway.for_kernel("one")) for _ in range(8)]
    for queue in queues:
        for _ in range(7):
            queue.put(message("display_data", MEGABYTE))
    other = SendQueue(stream_message, gateway.for_kernel("two"))
    other.put(message("display_data", MEGABYTE))
    assert [part.kind for part in await rest(other)] == ["display_data"]
    kinds = [part.kind for queue in queues for part in await rest(queue)]
    assert 16 <= kinds.count("display_data") <= 20


async def test_cleared_queue_holds_nothing() -> None:
    """Text and messages no longer count, so that other queues have room for them."""
    memory = GatewayMemory(4 * MEGABYTE).for_kernel("default")
    for _ in range(10):
        queue = SendQueue(stream_message, memory)
        for _ in range(3):
            queue.put_text("stdout", "x" * MEGABYTE, {"msg_id": "1"})
            queue.put(message("display_data", MEGABYTE))
        queue.clear()
    queue.put(message("display_data", MEGABYTE))
    assert [part.kind for part in await rest(queue)] == ["display_data"]
