"""The events of code that runs, kept so that any number of readers can follow them from the start."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from sessions.executions.execution import Execution
from sessions.executions.result import ExecutionEvent, ExecutionResult, FinishedExecution, gather
from sessions.models import InputRequest, JsonObject


class RunningCell:
    """A cell of a session that runs or has ended, with all its events."""

    def __init__(self, cell_id: str, number: int) -> None:
        self.cell_id = cell_id
        self.number = number
        """Place of the cell in its session, from 1."""
        self.execution_id = ""
        self.reply: JsonObject = {}
        """The kernel's reply, which user code may have forged; empty until the code has ended."""
        self.waits_for_input = False
        """Whether the code has asked for input and waits."""
        self._events: list[ExecutionEvent] = []
        self._failure: Exception | None = None
        self._is_over = False
        self._changed = asyncio.Event()

    def add(self, event: ExecutionEvent) -> None:
        """Pass an event on to all readers."""
        if isinstance(event, InputRequest):
            self.waits_for_input = True
        elif isinstance(event, ExecutionResult):
            self.waits_for_input = False
        self._events.append(event)
        self._wake()

    def end(self, failure: Exception | None = None) -> None:
        """Note that no event follows. With a `failure` there is no result. Do nothing the second time."""
        if self._is_over:
            return
        self._failure, self._is_over = failure, True
        self._wake()

    @property
    def is_over(self) -> bool:
        """Whether no event follows."""
        return self._is_over

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self) -> AsyncGenerator[ExecutionEvent]:
        """Yield all events, from the first. Raise the error that ended the cell, if one did."""
        position = 0
        while True:
            while position < len(self._events):
                position += 1
                yield self._events[position - 1]
            if self._is_over:
                break
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    async def wait(self) -> None:
        """Wait until the cell is over."""
        while not self._is_over:
            await self._changed.wait()

    async def finished(self) -> FinishedExecution:
        """Wait for the result, and return it with the text. Raise the error that ended the cell."""
        async for _ in self.follow():
            pass
        return self.gathered()

    def gathered(self) -> FinishedExecution:
        """Return text and result of a cell that has a result."""
        return gather(self._events)


class BufferedExecution:
    """Runs an execution independently of its reader, so that a slow reader does not keep a sandbox."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._buffer = RunningCell("", 0)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            async with aclosing(self._execution.events()) as events:
                async for event in events:
                    self._buffer.add(event)
        except Exception as error:
            self._buffer.end(error)
        self._buffer.end()

    def events(self) -> AsyncGenerator[ExecutionEvent]:
        """Return the events, as `Execution.events` does."""
        return self._buffer.follow()

    async def close(self) -> None:
        """Stop the code if it still runs, and give the sandbox back."""
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._execution.close()
