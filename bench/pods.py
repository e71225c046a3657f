"""Pods compared with containers: `python -m bench.pods`. The tests' cluster must run.

Prints a table: time until a container's kernel is ready, latency of a single caller, and executions per
second with and without reuse of containers.
"""

import re

from bench.engine import Engine
from bench.load import drive
from bench.progress import say
from bench.report import table
from bench.service import Service
from bench.statistics import median, percentile_99
from service.settings.containers import ContainerSettings
from tests.support.cluster import FOLDER

_TURNS = 8
_SECONDS = 12.0
_CLIENTS = 4
_BACKENDS: dict[str, dict[str, str]] = {
    "Docker": {},
    "Kubernetes": {"EXECUTOR_BACKEND": "kubernetes", "KUBECONFIG": str(FOLDER / "kubeconfig")},
}
_BACKENDS["Kubernetes, no TLS"] = _BACKENDS["Kubernetes"] | {"KERNEL_ENCRYPTION": "never"}
_ROOM = {"POOL_SIZE": "2", "MAX_CONTAINERS": "8", "QUEUE_SIZE": "64", "QUEUE_TIMEOUT_SEC": "60"}


def _mean_start(service: Service, part: str) -> float:
    """Return the mean seconds of one part of all container starts so far."""
    text = service.http.get("/metrics").text
    name = "code_interpreter_container_start_seconds"
    total, count = (
        float(re.search(rf'^{name}_{kind}{{part="{part}"}} (\S+)', text, re.MULTILINE)[1])  # type: ignore[index]
        for kind in ("sum", "count")
    )
    return total / count


def measure(engine: Engine, backend: str) -> list[str]:
    """Return one column of the table."""
    settings = _ROOM | _BACKENDS[backend]
    column = []
    with Service(engine, **settings) as service:
        latencies = []
        for _ in range(_TURNS):
            service.settle()
            latencies.append(service.http.post("/v1/execute", json={"code": "1+1"}).elapsed.total_seconds())
        service.settle()
        column += [f"{_mean_start(service, part):.2f} s" for part in ("container", "kernel")]
        column.append(f"{median(latencies) * 1000:.1f} / {percentile_99(latencies) * 1000:.1f} ms")
        load = drive(str(service.http.base_url), _CLIENTS, _SECONDS)
        column.append(f"{load.per_second:.2f}")
        service.settle()
    with Service(engine, CONTAINER_REUSE="tenant", **settings) as service:
        service.settle()
        drive(str(service.http.base_url), 1, 1)
        column.append(f"{drive(str(service.http.base_url), _CLIENTS, _SECONDS).per_second:.1f}")
        service.settle()
    say(f"{backend}: {', '.join(column)}")
    return column


def main() -> None:
    """Measure all backends, and print the table."""
    engine = Engine(ContainerSettings().python_executor_docker_image)
    names = (
        "start of a container",
        "start of a kernel in it",
        "`1+1`, one caller, median / p99",
        f"executions per second, {_CLIENTS} clients, a new container each",
        f"executions per second, {_CLIENTS} clients, containers reused",
    )
    columns = {backend: measure(engine, backend) for backend in _BACKENDS}
    rows = zip(names, *columns.values(), strict=True)
    print(table(("", *columns), [tuple(row) for row in rows]))


if __name__ == "__main__":
    main()
