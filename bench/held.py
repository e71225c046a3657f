"""Memory of an idle and of a busy kernel, and growth of the server over thousands of executions."""

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
    """Memory of one container that cannot be reclaimed."""

    ready_bytes: int
    busy_bytes: int
    """While the kernel works on a DataFrame of 8 MB."""


@dataclass(frozen=True)
class Process:
    """Memory, threads and descriptors of the server's process at one moment."""

    resident_bytes: int
    threads: int
    descriptors: int


@dataclass(frozen=True)
class Growth:
    """The server's process before and after a number of executions, and the maximum in between."""

    executions: int
    before: Process
    maximum: Process
    after: Process


def kernels(engine: Engine) -> Kernels:
    """Measure the memory of a service's only container, idle and busy."""
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
    """Run `1+1` many times in reused containers, after one round that is not counted."""
    url = str(service.http.base_url)
    drive(url, _CLIENTS, _ROUND_SEC)
    service.settle()
    samples = [before := _sample(service)]
    done = 0
    while done < executions:
        load = drive(url, _CLIENTS, _ROUND_SEC)
        if load.failed:
            raise ServiceFailed(f"{load.failed} of {len(load.answered)} executions failed")
        done += len(load.answered)
        samples.append(_sample(service))
        say(f"growth: {done} of {executions} executions, {samples[-1].resident_bytes >> 20} MiB")
    service.settle()
    maximum = Process(
        max(sample.resident_bytes for sample in samples),
        max(sample.threads for sample in samples),
        max(sample.descriptors for sample in samples),
    )
    return Growth(done, before, maximum, _sample(service))


def _sample(service: Service) -> Process:
    process = service.process
    return Process(process.resident_bytes(), process.threads(), process.descriptors())
