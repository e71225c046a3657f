"""Executions per second, compared with plain Docker: `python -m bench.throughput`.

    python -m bench.throughput [--quick] [--chart FILE] [--json FILE] [--beside NAME=URL ...]

`--beside` adds another service that has `/v1/execute` to the table, and a table of ratios to it.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
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
_FIGURE = (
    "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9, 16])\nplt.title('squares')\nplt.savefig('a.png')"
)
_FIT = (
    "import numpy as np\nfrom sklearn.linear_model import LinearRegression\nx = np.random.rand(1000, 5)\n"
    "LinearRegression().fit(x, x.sum(axis=1)).coef_.shape"
)
_ALONE = {"1+1": "1+1", "pandas": PANDAS, "a figure": _FIGURE, "scikit-learn": _FIT}
_PAUSE_SEC = 3.0
"""Time between the calls of a single caller to a service that does not say when it is at rest."""
_ROOM = {
    "POOL_SIZE": str(_POOL),
    "MAX_CONTAINERS": str(3 * _CORES),
    "QUEUE_SIZE": "256",
    "QUEUE_TIMEOUT_SEC": "120",
}


@dataclass
class Row:
    """One way to run code, with a number of concurrent callers."""

    name: str
    clients: int
    per_second: float
    latencies: list[float] = field(repr=False)
    cpu_seconds: float
    """CPU time of the whole machine for one execution, including the benchmark's own."""
    refused: int = 0
    failed: int = 0
    service: str = ""
    case: str = ""
    """Rows of different services with the same case and number of callers are compared."""


def _busy_seconds() -> float:
    """Return the CPU time of all cores since the machine's start, in seconds. See proc_stat(5)."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _repeated(name: str, action: Callable[[], object], clients: int, seconds: float) -> Row:
    """Let threads repeat an action."""
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
    say(f"{name}, {clients} threads: {len(latencies) / took:.1f} per second")
    return Row(name, clients, len(latencies) / took, latencies, busy / len(latencies))


def _served(name: str, base_url: str, clients: int, seconds: float, code: str = "1+1") -> Row:
    expected = "2\n" if code == "1+1" else ""
    drive(base_url, clients, 1, code, expected)
    before = _busy_seconds()
    load: Load = drive(base_url, clients, seconds, code, expected)
    cpu = (_busy_seconds() - before) / max(1, len(load.answered))
    say(f"{name}, {clients} clients: {load.per_second:.1f} per second")
    return Row(
        name, clients, load.per_second, load.answered, cpu, load.refused, load.failed, name, "sustained"
    )


def _alone(name: str, base_url: str, rest: Callable[[], object], turns: int) -> list[Row]:
    """Measure a single caller, who calls only when the service is at `rest` again.

    The first two calls of each program are not measured: the service may learn what it imports.
    """
    rows = []
    for case, code in _ALONE.items():
        latencies: list[float] = []
        before = _busy_seconds()
        for _ in range(turns + 2):
            rest()
            load = drive(base_url, 1, 0, code, None)
            latencies += load.answered
        cpu = (_busy_seconds() - before) / (turns + 2)
        say(f"{name}, {case}: {median(latencies[2:]) * 1000:.1f} ms")
        rows.append(Row(f"{name}, {case}, alone", 1, 0, latencies[2:], cpu, service=name, case=case))
    return rows


def _cold(engine: Engine, turns: int) -> Row:
    """Measure the time from the start of the service's process to its first answer. The image exists."""
    latencies = []
    for _ in range(turns):
        with Service(engine) as service:
            service.execute("1+1")
            latencies.append(time.perf_counter() - service.started)
    say(f"cold start: {median(latencies):.2f} s")
    return Row("cold start to the first answer", 1, 0, latencies, 0)


def _burst(name: str, service: Service) -> Row:
    """Send one call from each of twice as many callers as there are ready kernels."""
    service.settle()
    load = drive(str(service.http.base_url), 2 * _POOL, 0)
    say(f"{name}: {median(load.answered) * 1000:.0f} ms")
    return Row(name, 2 * _POOL, 0, load.answered, 0, load.refused, load.failed)


def measure(engine: Engine, seconds: float, turns: int, others: dict[str, str]) -> list[Row]:
    """Measure all rows of the table."""
    rows = [_repeated("create, exec, remove", engine.create_exec_remove, _CORES * 2, seconds)]
    rows.append(_repeated("create, exec, remove", engine.create_exec_remove, 1, seconds))
    rows.append(_repeated("docker run", lambda: engine.run("print(1+1)"), 1, seconds))
    with engine.standing_container() as container:
        rows.append(_repeated("docker exec", container, 1, seconds))
    with LocalKernel() as kernel:
        rows.append(_repeated("a local ipykernel", kernel.execute, 1, seconds))
    rows.append(_cold(engine, _COLD_STARTS))
    for mode, settings in (("default", {}), ("never", {"CONTAINER_REUSE": "never", **_ROOM})):
        with Service(engine, **settings) as service:
            base_url = str(service.http.base_url)
            rows += _alone(mode, base_url, service.settle, turns)
            rows.append(_burst(f"{mode}, a burst", service))
            rows += [_served(mode, base_url, clients, seconds) for clients in _CLIENTS]
            service.settle()
    for name, url in others.items():
        rows += _alone(name, url, partial(time.sleep, _PAUSE_SEC), turns)
        rows += [_served(name, url, clients, seconds) for clients in _CLIENTS]
    return rows


def compared_as_markdown(rows: list[Row], other: str) -> str:
    """Return a table of the rows that another service has too, each with the ratio to it.

    Medians are compared for a single caller, and executions per second for sustained load.
    """
    theirs = {(row.case, row.clients): row for row in rows if row.service == other}
    lines = []
    for row in rows:
        compared = theirs.get((row.case, row.clients))
        if compared is None or row is compared or not (row.latencies and compared.latencies):
            continue
        if row.per_second:
            value, ratio = f"{row.per_second:.1f}/s", f"{row.per_second / compared.per_second:.1f}"
            their_value = f"{compared.per_second:.1f}/s"
        else:
            ours_sec, theirs_sec = median(row.latencies), median(compared.latencies)
            value, their_value = f"{ours_sec * 1000:.1f} ms", f"{theirs_sec * 1000:.1f} ms"
            ratio = f"1/{theirs_sec / ours_sec:.1f}"
        cpu = f"{row.cpu_seconds * 1000:.0f}", f"{compared.cpu_seconds * 1000:.0f}"
        refused = f"{row.refused}", f"{compared.refused}"
        lines.append([row.name, str(row.clients), value, their_value, ratio, *cpu, *refused])
    head = ["case", "callers", "ours", other, "ratio", "CPU, ms", f"{other}'s", "refused", f"{other}'s"]
    return table(head, lines)


def as_markdown(rows: list[Row]) -> str:
    """Return the table, with the ratios of each row to plain Docker.

    Executions per second are compared with the first row, and medians with the second one, a single caller.
    """
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
        "case",
        "callers",
        "per second",
        "ratio to the first",
        "p50, ms",
        "p99, ms",
        "p50 to create/exec/remove",
        "CPU, ms",
        "refused/failed",
    ]
    return table(head, lines)


def held_as_markdown(kernels: held.Kernels, growth: held.Growth) -> str:
    """Return a table of a kernel's memory, and of the server's before and after many executions."""
    moments = [("before", growth.before), ("maximum", growth.maximum), ("after", growth.after)]
    lines = [["kernel, ready", f"{kernels.ready_bytes / MIB:.0f} MiB", "", ""]]
    lines.append(["kernel, busy with a DataFrame", f"{kernels.busy_bytes / MIB:.0f} MiB", "", ""])
    for name, sample in moments:
        text = f"server, {name}" + (f" {growth.executions} executions" if name != "maximum" else "")
        memory = f"{sample.resident_bytes / MIB:.0f} MiB"
        lines.append([text, memory, str(sample.threads), str(sample.descriptors)])
    return table(["process", "memory", "threads", "descriptors"], lines)


def main() -> None:
    """Run the benchmarks and print their tables."""
    arguments = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a few seconds for each row")
    arguments.add_argument("--chart", type=Path, metavar="FILE", help="draw a chart as PNG")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to FILE")
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
    compared = (compared_as_markdown(rows, other) for other in others)
    print(where, as_markdown(rows), *compared, held_as_markdown(kernels, growth), sep="\n\n")


if __name__ == "__main__":
    main()
