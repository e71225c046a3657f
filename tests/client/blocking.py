"""The asynchronous client with blocking calls: an event loop on another thread runs what is awaited."""

import asyncio
import inspect
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Self

from code_interpreter_client import AsyncClient, AsyncSession, AsyncStream


class Loop:
    """An event loop that runs on a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def run(self, awaitable: Any) -> Any:
        """Wait for an awaitable and return its result. Several threads may do so at the same time."""

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
    """Wraps a client, session or stream; its methods wait for the result."""

    def __init__(self, target: AsyncClient | AsyncSession | AsyncStream, loop: Loop) -> None:
        self._target = target
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            result = value(*args, **kwargs)
            if inspect.isawaitable(result):
                result = self._loop.run(result)
            if isinstance(result, AsyncSession | AsyncStream):
                return Blocking(result, self._loop)
            return result

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

        async def next_event() -> Any:
            # anext() must be called on the loop, so that the loop closes an iterator that is left early.
            return await anext(events, None)

        while (event := self._loop.run(next_event())) is not None:
            yield event
