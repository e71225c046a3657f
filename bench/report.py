"""The results of one run, as Markdown and as JSON."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from bench.latency import Latency
from bench.preload import FirstImport, Preload
from bench.server_load import Flood, ServerCpu
from bench.statistics import median, percentile_99

_MIB = 1 << 20
_GROWTH_TARGET_MIB = 50


@dataclass
class Results:
    """All measurements of one run."""

    machine: str
    engine: str
    service_version: str
    image: str
    load_before: float
    load_after: float
    latencies: list[Latency]
    idle_server_bytes: int
    server_cpu: ServerCpu
    floods: list[Flood]
    preloads: list[Preload]
    imports: list[FirstImport]

    def as_json(self) -> dict[str, Any]:
        """Return every single measurement, in seconds and bytes."""
        return asdict(self)

    def as_markdown(self) -> str:
        """Return the tables."""
        parts = (
            self._environment(),
            self._latency_table(),
            self._server_table(),
            self._preload_table(),
            self._import_table(),
        )
        return "\n\n".join(parts)

    def _environment(self) -> str:
        return (
            f"Version {self.service_version}, {self.machine}, {self.engine}, image {self.image}. "
            f"Load average {self.load_before:.1f} before and {self.load_after:.1f} after."
        )

    def _latency_table(self) -> str:
        by_name = {latency.name: latency for latency in self.latencies}

        def row(latency: Latency) -> list[str]:
            typical = median(latency.seconds)
            ratio = target = ""
            if latency.beside is not None:
                ratio = f"1/{median(by_name[latency.beside].seconds) / typical:.1f}"
            if latency.target is not None:
                target = f"under 1/{latency.target:g}"
            return [
                latency.name,
                f"{typical * 1000:.1f}",
                f"{percentile_99(latency.seconds) * 1000:.1f}",
                ratio,
                target,
                str(len(latency.seconds)),
            ]

        head = ["request", "median, ms", "p99, ms", "ratio to `docker run`", "target", "runs"]
        return table(head, map(row, self.latencies))

    def _server_table(self) -> str:
        cpu = self.server_cpu
        rows = [
            ["resident memory, idle with a full pool", f"{self.idle_server_bytes / _MIB:.0f} MiB", ""],
            ["CPU to answer 1+1", f"{median(cpu.answering) * 1000:.1f} ms", ""],
            [
                "the same, including the container's removal and the next one's start",
                f"{median(cpu.altogether) * 1000:.1f} ms",
                "",
            ],
        ]
        rows += [
            [
                f"growth for {flood.printed_bytes / 1e9:.1f} GB with {flood.name} ({flood.seconds:.1f} s)",
                f"{flood.growth_bytes / _MIB:.1f} MiB",
                f"under {_GROWTH_TARGET_MIB}",
            ]
            for flood in self.floods
        ]
        return table(["server process", "", "target"], rows)

    def _preload_table(self) -> str:
        first = self.preloads[0]
        rows = [_preload_row("none", first, None)]
        rows += [_preload_row(f"+ {step.library}", step, before) for before, step in pairwise(self.preloads)]
        head = ["preloaded", "memory, MiB", "difference", "CPU to start, s", "difference", "ready after, s"]
        return table(head, rows)

    def _import_table(self) -> str:
        rows = [
            [
                item.library,
                f"{median(item.after_others) * 1000:.0f}",
                f"{median(item.alone) * 1000:.0f}",
            ]
            for item in self.imports
        ]
        head = ["import, not preloaded", "ms, after the ones above", "ms, alone"]
        return table(head, rows)


def _preload_row(name: str, step: Preload, before: Preload | None) -> list[str]:
    memory, cpu = median(step.memory_bytes) / _MIB, median(step.cpu_seconds)
    more_memory = more_cpu = ""
    if before is not None:
        more_memory = f"{memory - median(before.memory_bytes) / _MIB:+.1f}"
        more_cpu = f"{cpu - median(before.cpu_seconds):+.2f}"
    ready = f"{median(step.ready_seconds):.2f}"
    return [name, f"{memory:.1f}", more_memory, f"{cpu:.2f}", more_cpu, ready]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table. All columns except the first are aligned right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
