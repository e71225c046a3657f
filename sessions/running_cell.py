"""Code while it runs: whoever wants follows it, and nobody has to."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from service.routes.schemas.execute import ExecuteResponse, ExecuteResult
from sessions.executions.execution import Execution, RunEvent
from sessions.models import InputRequest, JsonObject, OutputChunk


class RunningCell:
    """The events of a running cell, kept until it is forgotten, so that a follower misses none."""

    def __init__(self, cell_id: str, number: int) -> None:
        self.cell_id = cell_id
        self.number = number
        self.execution_id = ""
        self.reply: JsonObject = {}
        """What the kernel replied, once it has, believed in nothing."""
        self.asks = False
        """Whether the code waits for an answer."""
        self._events: list[RunEvent] = []
        self._failure: Exception | None = None
        self._over = False
        self._changed = asyncio.Event()

    def add(self, event: RunEvent) -> None:
        """Pass an event on to all followers."""
        self.asks = isinstance(event, InputRequest) or (self.asks and not isinstance(event, ExecuteResult))
        self._events.append(event)
        self._wake()

    def end(self, failure: Exception | None = None) -> None:
        """No event follows. With a `failure` there is no result. What is over stays as it is."""
        if self._over:
            return
        self._failure, self._over = failure, True
        self._wake()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._over

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self) -> AsyncGenerator[RunEvent]:
        """All events from the first. Raises what made the cell fail."""
        seen = 0
        while True:
            while seen < len(self._events):
                seen += 1
                yield self._events[seen - 1]
            if self._over:
                break
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    async def wait(self) -> None:
        """Return once it is over."""
        while not self._over:
            await self._changed.wait()

    async def response(self) -> ExecuteResponse:
        """The whole answer, once there is one. Raises what made the cell fail."""
        async for _ in self.follow():
            pass
        return self.gathered()

    def gathered(self) -> ExecuteResponse:
        """The answer of a cell that has ended well."""
        return gather(self._events)


class BufferedExecution:
    """A run that does not wait for its reader: a slow one holds some text, and no kernel."""

    def __init__(self, run: Execution) -> None:
        self._run = run
        self._live = RunningCell("", 0)
        self._task = asyncio.create_task(self._go())

    async def _go(self) -> None:
        try:
            async with aclosing(self._run.events()) as events:
                async for event in events:
                    self._live.add(event)
        except Exception as error:
            self._live.end(error)
        self._live.end()

    def events(self) -> AsyncGenerator[RunEvent]:
        """As `Execution.events`."""
        return self._live.follow()

    async def close(self) -> None:
        """End it, if it has not ended, and give the kernel back."""
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._run.close()


def gather(events: list[RunEvent]) -> ExecuteResponse:
    """One answer of a run's events, the last of which is its result."""
    result = events[-1]
    assert isinstance(result, ExecuteResult)
    text: dict[str, list[str]] = {"stdout": [], "stderr": []}
    for event in events:
        if isinstance(event, OutputChunk):
            text[event.stream].append(event.text)
    stdout, stderr = ("".join(text[stream]) for stream in ("stdout", "stderr"))
    return ExecuteResponse.model_construct(stdout=stdout, stderr=stderr, **result.__dict__)
