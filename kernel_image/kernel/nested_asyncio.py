"""`asyncio.run(...)` in a cell, although the kernel itself runs on an event loop.

A script may start an event loop anywhere. In a notebook the same line fails, because the kernel's
loop already runs in that thread. The kernel's loop is hidden while the program's own loop runs.
"""

import asyncio
import functools
from asyncio import base_events, events, runners
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def _running_loop_hidden() -> Iterator[None]:
    running = events._get_running_loop()
    events._set_running_loop(None)
    try:
        yield
    finally:
        if running is not None:
            events._set_running_loop(running)
            events.set_event_loop(running)


def _outside_running_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _running_loop_hidden():
            return function(*args, **kwargs)

    return call


def _run_until_complete(loop: base_events.BaseEventLoop, future: Any) -> Any:
    """Run a future as `run_until_complete` does. A new loop runs it if `loop` is the kernel's own."""
    if loop is events._get_running_loop() and asyncio.iscoroutine(future):
        return asyncio.run(future)
    with _running_loop_hidden():
        return _original_run_until_complete(loop, future)


_original_run_until_complete = base_events.BaseEventLoop.run_until_complete


def allow() -> None:
    """Let user code in this process start event loops inside the kernel's loop."""
    asyncio.run = runners.run = _outside_running_loop(runners.run)
    type.__setattr__(runners.Runner, "run", _outside_running_loop(runners.Runner.run))
    type.__setattr__(base_events.BaseEventLoop, "run_until_complete", _run_until_complete)
