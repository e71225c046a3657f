"""A conversation for each test."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp import Client

from tests.mcp.support import conversation
from tests.support.process import Service


@pytest.fixture
async def client(service: Service) -> AsyncIterator[Client]:
    """A conversation on the shared service. One task opens and closes it, as the SDK requires."""
    opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
    finished = asyncio.Event()

    async def converse() -> None:
        async with conversation(service) as client:
            opened.set_result(client)
            await finished.wait()

    task = asyncio.create_task(converse())
    either: list[asyncio.Future[Any]] = [task, opened]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    yield opened.result()
    finished.set()
    await task
