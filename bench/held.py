"""What is held: memory of a kernel that waits or works, and what thousands of calls leave in the server."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.engine import Engine
from bench.load import drive
from bench.progress import say
from bench.service import Service, ServiceFailed

_WORK = """
import pandas as pd, time
frame = pd.DataFrame({"n": range(1_000_000)})
frame.describe()
time.sleep(3)
"""
_WORKING_SEC = 2.0
_CLIENTS = 4
_ROUND_SEC = 10.0


@dataclass(frozen=True)
class Kernels:
    """Memory of one container that cannot be reclaimed, in bytes."""

    ready_bytes: int
    busy_bytes: int
    """While it works on a DataFrame of 8 MB."""


@dataclass(frozen=True)
class Process:
    """What the server's process holds at one moment."""

    resident_bytes: int
    threads: int
    descriptors: int


@dataclass(frozen=True)
class Growth:
    """The server before and after so many executions, and the most of each that was seen between."""

    executions: int
    before: Process
    most: Process
    after: Process


def kernels(engine: Engine) -> Kernels:
    """Look at the one container of a service, waiting and working."""
    say("memory of a kernel")
    with Service(engine, POOL_SIZE="1", MAX_CONTAINERS="1") as service, ThreadPoolExecutor(1) as threads:
        service.settle()
        ready = engine.held_bytes(service.instance_id)
        working = threads.submit(service.execute, _WORK)
        time.sleep(_WORKING_SEC)
        busy = engine.held_bytes(service.instance_id)
        working.result()
    return Kernels(ready, busy)


def growth(service: Service, executions: int) -> Growth:
    """Have a service that uses its containers again run `1+1` that often, after a round to warm up."""
    url = str(service.http.base_url)
    drive(url, _CLIENTS, _ROUND_SEC)
    service.settle()
    seen = [before := _look(service)]
    done = 0
    while done < executions:
        load = drive(url, _CLIENTS, _ROUND_SEC)
        if load.failed:
            raise ServiceFailed(f"{load.failed} of {len(load.answered)} executions failed")
        done += len(load.answered)
        seen.append(_look(service))
        say(f"growth: {done} of {executions} executions, {seen[-1].resident_bytes >> 20} MiB")
    service.settle()
    most = Process(
        max(look.resident_bytes for look in seen),
        max(look.threads for look in seen),
        max(look.descriptors for look in seen),
    )
    return Growth(done, before, most, _look(service))


def _look(service: Service) -> Process:
    process = service.process
    return Process(process.resident_bytes(), process.threads(), process.descriptors())
