"""How many executions a second, beside what Docker does by itself: `python -m bench.throughput`.

    python -m bench.throughput [--quick] [--chart FILE] [--json FILE] [--beside NAME=URL ...]

`--beside` puts another service that has `/v1/execute` into the same table.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import chart, held, machine
from bench.engine import Engine
from bench.latency import PANDAS
from bench.load import Load, drive
from bench.local_kernel import LocalKernel
from bench.progress import say
from bench.report import table
from bench.service import Service
from bench.statistics import median, percentile_99
from service.settings.containers import ContainerSettings
from service.settings.values import MIB

_CLIENTS = (1, 4, 16, 64)
_CORES = os.cpu_count() or 1
_POOL = 2 * _CORES
_EXECUTIONS = 5000
_COLD_STARTS = 3
_ROOM = {
    "POOL_SIZE": str(_POOL),
    "MAX_CONTAINERS": str(3 * _CORES),
    "QUEUE_SIZE": "256",
    "QUEUE_TIMEOUT_SEC": "120",
}


@dataclass
class Row:
    """One way to run `1+1`, with so many callers at once."""

    name: str
    clients: int
    per_second: float
    latencies: list[float] = field(repr=False)
    cpu_seconds: float
    """CPU time of the whole machine for one execution, the benchmark's own included."""
    refused: int = 0
    failed: int = 0


def _busy_seconds() -> float:
    """CPU time all cores have been busy since the machine's start. See proc_stat(5)."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _repeated(name: str, action: Callable[[], object], clients: int, seconds: float) -> Row:
    """Have threads do something again and again."""
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    def repeat() -> None:
        while (started := time.perf_counter()) < until:
            action()
            latencies.append(time.perf_counter() - started)

    before, began = _busy_seconds(), time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        for done in [threads.submit(repeat) for _ in range(clients)]:
            done.result()
    took, busy = time.perf_counter() - began, _busy_seconds() - before
    say(f"{name}, {clients} at once: {len(latencies) / took:.1f} a second")
    return Row(name, clients, len(latencies) / took, latencies, busy / len(latencies))


def _served(name: str, base_url: str, clients: int, seconds: float, code: str = "1+1") -> Row:
    expected = "2\n" if code == "1+1" else ""
    drive(base_url, clients, 1, code, expected)
    before = _busy_seconds()
    load: Load = drive(base_url, clients, seconds, code, expected)
    cpu = (_busy_seconds() - before) / max(1, len(load.answered))
    say(f"{name}, {clients} clients: {load.per_second:.1f} a second")
    return Row(name, clients, load.per_second, load.answered, cpu, load.refused, load.failed)


def _alone(name: str, service: Service, code: str, turns: int) -> Row:
    """One call after the other, each with the pool full again: what a caller meets who is alone."""
    latencies = []
    for _ in range(turns):
        service.settle()
        started = time.perf_counter()
        service.execute(code)
        latencies.append(time.perf_counter() - started)
    say(f"{name}: {median(latencies) * 1000:.1f} ms")
    return Row(name, 1, 0, latencies, 0)


def _cold(engine: Engine, turns: int) -> Row:
    """From the start of the service's process to its first answer, the image being there."""
    latencies = []
    for _ in range(turns):
        with Service(engine) as service:
            service.execute("1+1")
            latencies.append(time.perf_counter() - service.started)
    say(f"cold start: {median(latencies):.2f} s")
    return Row("cold start to the first answer", 1, 0, latencies, 0)


def _burst(name: str, service: Service) -> Row:
    """Twice as many callers at once as there are kernels ready, each with one call."""
    service.settle()
    load = drive(str(service.http.base_url), 2 * _POOL, 0)
    say(f"{name}: {median(load.answered) * 1000:.0f} ms")
    return Row(name, 2 * _POOL, 0, load.answered, 0, load.refused, load.failed)


def measure(engine: Engine, seconds: float, turns: int, others: dict[str, str]) -> list[Row]:
    """All rows, in one go."""
    rows = [_repeated("create, exec, remove", engine.create_exec_remove, _CORES * 2, seconds)]
    rows.append(_repeated("create, exec, remove", engine.create_exec_remove, 1, seconds))
    rows.append(_repeated("docker run", lambda: engine.run("print(1+1)"), 1, seconds))
    with engine.standing_container() as container:
        rows.append(_repeated("docker exec", container, 1, seconds))
    with LocalKernel() as kernel:
        rows.append(_repeated("a local ipykernel, bare", kernel.execute, 1, seconds))
    rows.append(_cold(engine, _COLD_STARTS))
    for mode in ("never", "tenant"):
        with Service(engine, CONTAINER_REUSE=mode, **_ROOM) as service:
            for name, code in (("1+1", "1+1"), ("pandas", PANDAS)):
                rows.append(_alone(f"{mode}, {name}, alone", service, code, turns))
            rows.append(_burst(f"{mode}, a burst", service))
            base_url = str(service.http.base_url)
            rows += [_served(mode, base_url, clients, seconds) for clients in _CLIENTS]
            service.settle()
    for name, url in others.items():
        rows += [_served(name, url, clients, seconds) for clients in _CLIENTS]
    return rows


def as_markdown(rows: list[Row]) -> str:
    """The table; each row also as a ratio: executions a second to the first, times to the second, alone."""
    base, cycle = rows[0], median(rows[1].latencies)
    lines = [
        [
            row.name,
            str(row.clients),
            f"{row.per_second:.1f}" if row.per_second else "",
            f"{row.per_second / base.per_second:.2f}" if row.per_second else "",
            f"{median(row.latencies) * 1000:.1f}",
            f"{percentile_99(row.latencies) * 1000:.1f}",
            f"1/{cycle / p50:.1f}" if (p50 := median(row.latencies)) < cycle else f"{p50 / cycle:.1f}",
            f"{row.cpu_seconds * 1000:.0f}" if row.cpu_seconds else "",
            f"{row.refused}/{row.failed}" if row.refused or row.failed else "",
        ]
        for row in rows
    ]
    head = [
        "what",
        "at once",
        "a second",
        "of the first",
        "p50, ms",
        "p99, ms",
        "p50, cycles",
        "CPU, ms",
        "refused/failed",
    ]
    return table(head, lines)


def held_as_markdown(kernels: held.Kernels, growth: held.Growth) -> str:
    """A kernel's memory, and the server before and after many executions."""
    moments = [("before", growth.before), ("at most", growth.most), ("after", growth.after)]
    lines = [["kernel, ready", f"{kernels.ready_bytes / MIB:.0f} MiB", "", ""]]
    lines.append(["kernel, at work on a DataFrame", f"{kernels.busy_bytes / MIB:.0f} MiB", "", ""])
    for name, look in moments:
        text = f"server, {name}" + (f" {growth.executions} executions" if name != "at most" else "")
        lines.append([text, f"{look.resident_bytes / MIB:.0f} MiB", str(look.threads), str(look.descriptors)])
    return table(["what", "memory", "threads", "descriptors"], lines)


def main() -> None:
    """Read the arguments, measure, print."""
    arguments = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a few seconds for each row")
    arguments.add_argument("--chart", type=Path, metavar="FILE", help="draw a PNG")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write every number to FILE")
    arguments.add_argument("--beside", nargs="*", default=[], metavar="NAME=URL", help="other services")
    given = arguments.parse_args()
    others = dict(item.split("=", 1) for item in given.beside)
    engine = Engine(ContainerSettings().python_executor_docker_image)
    try:
        rows = measure(engine, 4 if given.quick else 15, 5 if given.quick else 30, others)
        kernels = held.kernels(engine)
        with Service(engine, CONTAINER_REUSE="tenant", **_ROOM) as service:
            growth = held.growth(service, _EXECUTIONS // 10 if given.quick else _EXECUTIONS)
        if given.chart:
            bars = [(row.name, row.clients, row.per_second) for row in rows if row.per_second]
            chart.draw(engine, bars, given.chart)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        engine.close()
    if given.json:
        results = {"rows": list(map(asdict, rows)), "kernels": asdict(kernels), "growth": asdict(growth)}
        given.json.write_text(json.dumps(results, indent=1) + "\n")
    where = f"{machine.processor()}, {engine.describe()}"
    print(where, as_markdown(rows), held_as_markdown(kernels, growth), sep="\n\n")


if __name__ == "__main__":
    main()
