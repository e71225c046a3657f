"""Large input, code and commands for a kernel that has stopped itself."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpx
import pytest

from tests.hostile.bounds.watch import unharmed
from tests.hostile.conftest import soon
from tests.hostile.test_stopped_kernels import LARGE, STOP, has_stopped
from tests.support.process import Service
from tests.support.session import Session

CALLERS: Final = 6
ASK: Final = f"{STOP}\nwhile True: input('a line: ')"
"""Code that asks for input, and soon stops, so that it does not read a line."""
_GROWTH_MIB: Final = 64
"""Of one key, two cells of 3.9 MB are accepted at once: one that runs, and one that waits. Each exists as the
request's body, as its value, as the kernel's message, as the supervisor's note and as a row of the registry.
"""

Call = Callable[[httpx.Client, Session], httpx.Response]
CALLS: Final[dict[str, Call]] = {
    "cells": lambda client, session: client.post(
        f"{session.url}/execute", json={"code": f"#{LARGE}", "timeout_ms": 1000}
    ),
    "streamed cells": lambda client, session: client.post(
        f"{session.url}/execute/stream", json={"code": f"#{LARGE}", "timeout_ms": 1000}
    ),
    "detached cells": lambda client, session: client.post(
        f"{session.url}/execute", json={"code": f"#{LARGE}", "timeout_ms": 1000, "detach": True}
    ),
    "commands": lambda client, session: client.post(
        f"{session.url}/bash", json={"cmd": f"#{LARGE}", "timeout_ms": 1000}
    ),
    "completions": lambda client, session: client.post(
        f"{session.url}/complete", json={"code": LARGE, "cursor_pos": 1}
    ),
}


def together(service: Service, call: Callable[[httpx.Client], httpx.Response]) -> list[httpx.Response]:
    """Let several clients make a call at the same time, and return the responses."""

    def one(_: int) -> httpx.Response:
        with httpx.Client(base_url=service.base_url, timeout=120) as client:
            return call(client)

    with ThreadPoolExecutor(CALLERS) as threads:
        return list(threads.map(one, range(CALLERS)))


@pytest.fixture
def stopped(session: Session) -> Iterator[Session]:
    """A session whose kernel has stopped itself. It gets a new kernel afterwards."""
    session.run(STOP)
    assert soon(lambda: has_stopped(session))
    yield session
    session.restart()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_large_calls_to_a_stopped_kernel_are_bounded(target: Service, stopped: Session, call: Call) -> None:
    """Calls end at their time limits, wait for their turn, or are refused. Others are served."""
    with unharmed(target, growth_mib=_GROWTH_MIB):
        for _ in range(2):
            answers = together(target, lambda client: call(client, stopped))
            assert {answer.status_code for answer in answers} <= {200, 202, 409, 429}
    stopped.restart()
    assert stopped.printed("print(6 * 7)") == "42"


def test_large_input_for_a_stopped_kernel_is_bounded(target: Service, session: Session) -> None:
    """One line is accepted for each request for input. All other lines are refused, and none is kept."""
    options = {"allow_stdin": True, "detach": True, "timeout_ms": 20_000}
    with session.api.open_stream_at(f"{session.url}/execute/stream", ASK, **options) as events:
        next(event for event in events if event.type == "input_request")
    with unharmed(target):
        for _ in range(3):
            answers = together(
                target, lambda client: client.post(f"{session.url}/input", json={"value": LARGE})
            )
            statuses = [answer.status_code for answer in answers]
            assert set(statuses) <= {204, 409, 429}, statuses
    session.restart()
    assert session.printed("print(6 * 7)") == "42"
