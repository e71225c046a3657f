"""The order of printed text and published messages: their readers wait for each other at marks."""

import asyncio

from service.gateway.output_order import OutputOrder


async def test_message_waits_for_the_text_before_it_and_text_for_the_message() -> None:
    """The order of publishing is that of the kernel, although the text is read later."""
    order = OutputOrder()
    published: list[str] = []

    async def publish_messages() -> None:
        await order.wait_for_text_before("m")
        published.append("message")
        order.message_published("m")

    async def publish_text() -> None:
        await asyncio.sleep(0.05)
        published.append("before")
        await order.wait_for_message("m")
        published.append("after")

    await asyncio.gather(publish_messages(), publish_text())
    assert published == ["before", "message", "after"]


async def test_messages_in_another_order_than_their_marks_cause_no_timeout() -> None:
    """Two threads may write their marks in one order and publish in the other."""
    order = OutputOrder()

    async def publish_messages() -> None:
        for name in ("k_2", "k_1"):
            await order.wait_for_text_before(name)
            order.message_published(name)

    async def publish_text() -> None:
        for name in ("k_1", "k_2"):
            await order.wait_for_message(name)

    await asyncio.gather(publish_messages(), publish_text())
    assert order._mark_timeouts == order._message_timeouts == 0


async def test_text_keeps_waiting_when_an_earlier_message_without_a_mark_is_published() -> None:
    """The earlier message is published at once, because the text waits for a later one."""
    order = OutputOrder()
    text = asyncio.create_task(order.wait_for_message("k_7"))
    await asyncio.sleep(0)
    await order.wait_for_text_before("k_6")
    order.message_published("k_6")
    await asyncio.sleep(0)
    assert not text.done()
    await order.wait_for_text_before("k_7")
    order.message_published("k_7")
    await text
    assert order._mark_timeouts == order._message_timeouts == 0


async def test_messages_stop_waiting_for_marks_that_never_come() -> None:
    """After three timeouts in one request, further messages are published at once."""
    order = OutputOrder()
    for number in range(1000):
        await order.wait_for_text_before(str(number))
        order.message_published(str(number))
    assert order._mark_timeouts == 3
