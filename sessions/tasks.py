"""Asyncio tasks: work that runs in the background, and work that a cancellation must not interrupt."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundTasks:
    """Tasks that run beside the code that starts them.

    Holds each task until it has ended, because asyncio itself keeps only a weak reference. An exception
    that no one retrieves goes to the event loop's exception handler.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start ``work`` as a task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Cancel every task, without waiting for its end."""
        for task in self._tasks:
            task.cancel()

    async def wait(self) -> None:
        """Return when every task has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Cancel every task, and return when all have ended."""
        self.cancel()
        await self.wait()


async def finish(work: Awaitable[T]) -> T:
    """Await ``work``. When the caller is cancelled, wait until ``work`` has ended before raising that."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue
        raise
