"""Watches a service during an attack: its memory, and how fast it answers other clients."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.hostile.conftest import MemoryWatch
from tests.support.process import Service

_SLOWEST_SEC: Final = 1.0
"""The longest time that `/health` may take. 0.3 s is promised; other processes use the machine too."""
_REST_SEC: Final = 0.5
_REST_FACTOR: Final = 5
"""On a busy machine, `/health` may take so many times as long as during half a second before the attack."""
_GROWTH_MIB: Final = 50
_OTHER_CLIENT: Final = """
import json, sys, threading, time, urllib.request
url, times, failures, stop = sys.argv[1], [], [], threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set())).start()
print(flush=True)
while True:
    began = time.perf_counter()
    try: urllib.request.urlopen(url, timeout=30).read()
    except OSError as error: failures.append(repr(error))
    times.append(time.perf_counter() - began)
    if stop.wait(0.02): break
print(json.dumps([times, failures]))
"""
"""Asks for `/health` until its standard input ends. It is a process, so the attack does not slow it."""


class HealthWatch:
    """Another client, which asks for `/health` all the time while the block runs."""

    def __init__(self, service: Service) -> None:
        self._url = f"{service.base_url}/health"
        self.times: list[float] = []
        """How long each answer took, in seconds; filled at the end of the block."""
        self.failures: list[str] = []

    def __enter__(self) -> "HealthWatch":
        self._client = subprocess.Popen(
            [sys.executable, "-c", _OTHER_CLIENT, self._url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._client.stdout is not None
        self._client.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        output, _error = self._client.communicate(timeout=60)
        self.times, self.failures = json.loads(output)


@contextmanager
def unharmed(service: Service, growth_mib: int = _GROWTH_MIB) -> Iterator[None]:
    """Assert that the block takes little of the service's memory, and that `/health` answers meanwhile."""
    with HealthWatch(service) as rest:
        time.sleep(_REST_SEC)
    slowest = max(_SLOWEST_SEC, _REST_FACTOR * max(rest.times))
    with MemoryWatch(service) as memory, HealthWatch(service) as health:
        yield
    assert service.running, "the service has stopped"
    assert not health.failures
    assert memory.growth_kb < growth_mib * 1024, f"grew by {memory.growth_kb // 1024} MiB"
    assert max(health.times) < slowest, (
        f"/health took {max(health.times):.2f} s, and {max(rest.times):.2f} s at rest"
    )
