"""Executions per second with different databases and storages.

    python -m bench.state postgresql://…/one postgresql://…/two s3://bucket/one s3://bucket/two

One service has SQLite and a disk, one has PostgreSQL and an object storage, and two replicas share a database
and a storage. They are measured in turn, so that a disturbance affects all. The databases must be empty;
`AWS_*` configure the storage.
"""

import argparse
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPConnection

from bench.engine import Engine
from bench.progress import say
from bench.report import table
from bench.service import Service
from bench.statistics import median, percentile_99
from service.settings.containers import ContainerSettings

_SECONDS = 5.0
_ROUNDS = 4
_CALLERS = 4
_CALLS = 100
_ROOM = {
    "KERNEL_PRELOAD": "none",
    "POOL_SIZE": "1",
    "MAX_SESSIONS": "16",
    "MAX_CONTAINERS": "24",
    "SESSION_LEASE_SEC": "60",
}


class _Caller:
    """A session, and a connection over which it is used. The connection may be to the other replica."""

    def __init__(self, maker: Service, called: Service) -> None:
        answer = maker.http.post("/v1/sessions", json={"ttl_seconds": 3600})
        answer.raise_for_status()
        self._path = f"/v1/sessions/{answer.json()['session_id']}"
        self._maker = maker
        self.services = (maker, called)
        address = called.http.base_url
        self._connection = HTTPConnection(address.host, address.port)

    def run(self) -> float:
        started = time.perf_counter()
        self._connection.request(
            "POST", f"{self._path}/execute", b'{"code": "1+1"}', {"Content-Type": "application/json"}
        )
        answer = json.loads(self._connection.getresponse().read())
        assert answer["stdout"] == "2\n", answer
        return time.perf_counter() - started

    def close(self) -> None:
        self._connection.close()
        self._maker.http.delete(self._path)


def _load(callers: list[_Caller]) -> tuple[float, float]:
    """Return the calls per second, and the services' CPU seconds per call."""
    counts = [0] * len(callers)
    processes = {service.process for caller in callers for service in caller.services}
    before = sum(process.cpu_seconds() for process in processes)
    until = time.monotonic() + _SECONDS

    def go(number: int) -> None:
        while time.monotonic() < until:
            callers[number].run()
            counts[number] += 1

    threads = [threading.Thread(target=go, args=(number,)) for number in range(len(callers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    used = sum(process.cpu_seconds() for process in processes) - before
    return sum(counts) / _SECONDS, used / sum(counts)


def measure(engine: Engine, databases: list[str], storages: list[str]) -> list[list[str]]:
    """Return the rows: calls per second, CPU time per call, median and p99 of a single caller."""
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    shared = {"DATABASE_URL": databases[1], "FILE_STORAGE_URL": storages[1], **aws}
    replicas = {**shared, "REPLICA_SECRET": "of-the-benchmark-alone"}
    remote = {"DATABASE_URL": databases[0], "FILE_STORAGE_URL": storages[0], **aws}
    with ExitStack() as stack:
        local_state, remote_state, first, second = (
            stack.enter_context(Service(engine, **_ROOM, **settings))
            for settings in ({}, remote, replicas, replicas)
        )
        pair = (first, second)
        configurations: dict[str, Callable[[int], tuple[Service, Service]]] = {
            "SQLite and a disk": lambda _: (local_state, local_state),
            "PostgreSQL and S3": lambda _: (remote_state, remote_state),
            "one replica of two": lambda _: (first, first),
            "two replicas, own sessions": lambda number: (pair[number % 2], pair[number % 2]),
            "two replicas, the other's sessions": lambda number: (pair[number % 2], pair[1 - number % 2]),
        }
        callers = {
            name: [_Caller(*services(number)) for number in range(_CALLERS)]
            for name, services in configurations.items()
        }
        rates: dict[str, list[float]] = {name: [] for name in configurations}
        costs: dict[str, list[float]] = {name: [] for name in configurations}
        latencies: dict[str, list[float]] = {name: [] for name in configurations}
        for number in range(_ROUNDS):
            for name, some in callers.items():
                rate, cost = _load(some)
                rates[name].append(rate)
                costs[name].append(cost)
                latencies[name] += [some[0].run() for _ in range(_CALLS)]
            say(f"round {number + 1} of {_ROUNDS} done")
        for some in callers.values():
            for caller in some:
                caller.close()
    base, *_ = configurations
    rows = []
    for name in configurations:
        ratios = [rate / other for rate, other in zip(rates[name], rates[base], strict=True)]
        ms = 1000 * median(latencies[name])
        rows.append(
            [
                name,
                f"{median(rates[name]):.0f}",
                f"{median(ratios):.2f}",
                f"{1000 * median(costs[name]):.1f}",
                f"{ms:.1f}",
                f"{ms / (1000 * median(latencies[base])):.2f}",
                f"{1000 * percentile_99(latencies[name]):.0f}",
            ]
        )
    return rows


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("urls", nargs=4, help="URLs of two empty databases and two empty object storages")
    urls = parser.parse_args().urls
    rows = measure(Engine(ContainerSettings().python_executor_docker_image), urls[:2], urls[2:])
    head = [
        f"`1+1` in {_CALLERS} sessions",
        "calls per second",
        "ratio to the first",
        "CPU of services, ms per call",
        "one caller, ms",
        "ratio to the first",
        "p99, ms",
    ]
    print(table(head, rows))


if __name__ == "__main__":
    main()
