"""Measure everything in one run and print the tables: `python -m bench [--quick] [--json FILE]`."""

import argparse
import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import service
from bench import latency, machine, preload, server_load
from bench.engine import Engine
from bench.progress import say
from bench.report import Results
from bench.service import Service
from service.settings.containers import ContainerSettings


@dataclass(frozen=True)
class Size:
    """The number of repetitions, and the bytes that code prints."""

    turns: int
    executions: int
    printed_bytes: int
    preload_rounds: int


_FULL = Size(turns=30, executions=15, printed_bytes=2 << 30, preload_rounds=5)
_QUICK = Size(turns=5, executions=3, printed_bytes=2 << 28, preload_rounds=1)


def run(engine: Engine, size: Size) -> Results:
    """Take all measurements, one after the other."""
    load_before = machine.load()
    say("starting the service")
    with Service(engine) as running:
        idle = running.process.resident_bytes()
        latencies = latency.measure(engine, running, size.turns)
        cpu = server_load.cpu_per_execution(running, size.executions)
    floods = server_load.floods(engine, size.printed_bytes)
    preloads, imports = asyncio.run(preload.measure(engine, size.preload_rounds))
    return Results(
        machine=machine.processor(),
        engine=engine.describe(),
        service_version=service.__version__,
        image=engine.image,
        load_before=load_before,
        load_after=machine.load(),
        latencies=latencies,
        idle_server_bytes=idle,
        server_cpu=cpu,
        floods=floods,
        preloads=preloads,
        imports=imports,
    )


def main() -> None:
    """Run the benchmarks and print their tables."""
    arguments = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="measure with few repetitions")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to FILE")
    given = arguments.parse_args()
    engine = Engine(ContainerSettings().python_executor_docker_image)
    try:
        results = run(engine, _QUICK if given.quick else _FULL)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        engine.close()
    if given.json:
        given.json.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    print(results.as_markdown())


if __name__ == "__main__":
    main()
