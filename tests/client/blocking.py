"""The asynchronous client, called as if it blocked: what is awaited runs on a loop on another thread."""

import asyncio
import inspect
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Self

from code_interpreter_client import AsyncClient, AsyncSession, AsyncStream


class Loop:
    """A running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def run(self, awaitable: Any) -> Any:
        """What comes of it. Threads may wait for several at once."""

        async def wait() -> Any:
            return await awaitable

        coroutine: Coroutine[Any, Any, Any] = wait()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Blocking:
    """Has the methods of what it stands for, which wait."""

    def __init__(self, target: AsyncClient | AsyncSession | AsyncStream, loop: Loop) -> None:
        self._target = target
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            given = value(*args, **kwargs)
            if inspect.isawaitable(given):
                given = self._loop.run(given)
            if isinstance(given, AsyncSession | AsyncStream):
                return Blocking(given, self._loop)
            return given

        return call

    def __enter__(self) -> Self:
        assert not isinstance(self._target, AsyncClient)
        self._loop.run(self._target.__aenter__())
        return self

    def __exit__(self, *problem: Any) -> None:
        self._loop.run(self._target.__aexit__(*problem))

    def __iter__(self) -> Iterator[Any]:
        assert isinstance(self._target, AsyncStream)
        events = self._target.__aiter__()

        async def following() -> Any:
            # Called on the loop, which then sees to it that what is left early is closed.
            return await anext(events, None)

        while (event := self._loop.run(following())) is not None:
            yield event
