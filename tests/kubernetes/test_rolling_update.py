"""Test of a rolling update of two replicas, as the chart deploys them."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.kubernetes.deployed import end, opened, soon, through
from tests.support.api import Api, problem
from tests.support.deployment import Deployment, Replica
from tests.support.session import Session

pytestmark = pytest.mark.timeout(300)

RETRYABLE = frozenset({"session_moving", "replica_lost", "stopping", "no_capacity", "all_kernels_busy"})


@dataclass
class Caller:
    """Counts in a session, or with one-shot executions, again and again, and records the results."""

    session: Session | None
    api: Api
    count: int = 0
    """Number of calls that succeeded."""
    unsure: int = 0
    """Number of calls whose code may have run without an answer."""
    refusals: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def call_until(self, stop: threading.Event) -> None:
        """Repeat the call until `over` is set."""
        while not stop.is_set():
            try:
                self._call()
            except Exception as error:
                self.failures.append(repr(error))
            time.sleep(0.2)

    def _call(self) -> None:
        if self.session is None:
            response = self.api.execute("print(6 * 7)")
        else:
            response = self.session.execute("n += 1; print(n)")
        if response.status_code == 200:
            self.count += 1
            if self.session is None:
                assert response.json()["stdout"] == "42\n", response.text
            else:
                n = int(response.json()["stdout"])
                assert self.count <= n <= self.count + self.unsure, (n, self.count, self.unsure)
        else:
            refusal = problem(response)
            assert response.status_code == 503 and refusal["code"] in RETRYABLE, refusal
            self.refusals[refusal["code"]] += 1
            self.unsure += refusal["code"] in ("replica_lost", "stopping")


@contextmanager
def calling(callers: list[Caller]) -> Iterator[None]:
    """Let the callers call until the block ends."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(callers)) as threads:
        for caller in callers:
            threads.submit(caller.call_until, stop)
        try:
            yield
        finally:
            stop.set()


def test_rolling_update_loses_no_session_and_no_call(
    deployment: Deployment,
    replicas: tuple[Replica, Replica],
    api: Api,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    """Callers call all the time. No variable is lost, and calls fail only with a clear 503."""
    sessions: list[Session] = [soon(partial(opened, replica.api)) for replica in replicas for _ in range(2)]
    callers = [Caller(through(api, session), api) for session in sessions] + [Caller(None, api)]
    for session in sessions:
        session.run("n = 0")
    before = {pod["metadata"]["name"] for pod in deployment.pods()}
    with calling(callers):
        time.sleep(1)
        deployment.apply(podAnnotations={"rolled": uuid.uuid4().hex})
        deployment.settle()
        time.sleep(1)
    assert not before & {pod["metadata"]["name"] for pod in deployment.pods()}
    calls, refused = (
        sum(caller.count for caller in callers),
        sum((c.refusals for c in callers), Counter[str]()),
    )
    record_testsuite_property("rolled", f"{calls} calls went well, refused: {dict(refused)}")
    assert [failure for caller in callers for failure in caller.failures] == []
    assert calls > 50 and refused.total() < calls / 4
    for session in sessions:
        end(api, session)
