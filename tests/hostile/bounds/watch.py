"""Watches a service during an attack: its memory, and how fast it answers other clients."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.hostile.conftest import MemoryWatch
from tests.support.process import Service

_BUSY_SEC: Final = 0.5
"""The processor time that the service may use while `/health` waits. 0.3 s is promised on a machine at rest.

The time on the clock says little: other tests use the processors too.
"""
_SLOWEST_SEC: Final = 10.0
"""The time on the clock that `/health` may take: the service must not wait for something else."""
_GROWTH_MIB: Final = 50
_OTHER_CLIENT: Final = """
import json, os, sys, threading, time, urllib.request
url, stat, answers, failures, stop = sys.argv[1], f"/proc/{sys.argv[2]}/stat", [], [], threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set())).start()
def used():
    fields = open(stat).read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
print(flush=True)
while True:
    began, before = time.perf_counter(), used()
    try: urllib.request.urlopen(url, timeout=30).read()
    except OSError as error: failures.append(repr(error))
    answers.append((time.perf_counter() - began, used() - before))
    if stop.wait(0.02): break
print(json.dumps([answers, failures]))
"""
"""Asks for `/health` until its standard input ends. It is a process, so the attack does not slow it."""


class HealthWatch:
    """Another client, which asks for `/health` all the time while the block runs."""

    def __init__(self, service: Service) -> None:
        self._arguments = [f"{service.base_url}/health", str(service.process.pid)]
        self.slowest_sec = 0.0
        """The longest time that an answer took, known at the end of the block."""
        self.busy_sec = 0.0
        """The most processor time that the service used during an answer, known at the end of the block."""
        self.failures: list[str] = []

    def __enter__(self) -> "HealthWatch":
        self._client = subprocess.Popen(
            [sys.executable, "-c", _OTHER_CLIENT, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._client.stdout is not None
        self._client.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        output, _error = self._client.communicate(timeout=60)
        answers, self.failures = json.loads(output)
        self.slowest_sec, self.busy_sec = map(max, zip(*answers, strict=True))


@contextmanager
def unharmed(service: Service, growth_mib: int = _GROWTH_MIB) -> Iterator[None]:
    """Assert that the block takes little of the service's memory, and that `/health` answers meanwhile."""
    with MemoryWatch(service) as memory, HealthWatch(service) as health:
        yield
    assert service.running, "the service has stopped"
    assert not health.failures
    assert memory.growth_kb < growth_mib * 1024, f"grew by {memory.growth_kb // 1024} MiB"
    assert health.busy_sec < _BUSY_SEC, f"the service worked for {health.busy_sec:.2f} s before it answered"
    assert health.slowest_sec < _SLOWEST_SEC, f"/health took {health.slowest_sec:.2f} s"
