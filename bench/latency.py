"""Latency of `/v1/execute` with a full pool, compared with `docker run`.

The measurements alternate, so that a change of the machine's speed affects both.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.engine import Engine
from bench.progress import say
from bench.service import Service, ServiceFailed

PANDAS = 'import pandas as pd; pd.DataFrame({"a":[1]})'
_FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9, 16])\nplt.show()"
_REVERSE = "data = open('in.bin', 'rb').read()\nopen('out.bin', 'wb').write(data[::-1])"
_FILE_BYTES = 1_000_000
_WARM_UP_TURNS = 2


@dataclass
class Latency:
    """Seconds of each turn. `beside` names the case to compare with, and `target` is the wanted ratio."""

    name: str
    beside: str | None = None
    target: float | None = None
    seconds: list[float] = field(default_factory=list)


def measure(engine: Engine, service: Service, turns: int) -> list[Latency]:
    """Measure all cases in turn, after a few turns that are not counted."""
    plain_sum, plain_pandas = "`docker run`, 1+1", "`docker run`, pandas"
    cases: list[tuple[Latency, Callable[[], float]]] = [
        (Latency(plain_sum), lambda: engine.run("print(1+1)")),
        (Latency("`/v1/execute`, 1+1", plain_sum, 20), lambda: _execute(service, "1+1")),
        (Latency(plain_pandas), lambda: engine.run(PANDAS)),
        (Latency("`/v1/execute`, pandas", plain_pandas, 15), lambda: _execute(service, PANDAS)),
        (Latency("`/v1/execute`, a figure"), lambda: _figure(service)),
        (Latency("1 MB uploaded, reversed, downloaded"), lambda: _file_in_and_out(service)),
    ]
    for turn in range(-_WARM_UP_TURNS, turns):
        for latency, take in cases:
            service.settle()
            seconds = take()
            if turn >= 0:
                latency.seconds.append(seconds)
        if turn >= 0:
            say(f"latency: turn {turn + 1} of {turns}")
    return [latency for latency, _ in cases]


def _execute(service: Service, code: str) -> float:
    started = time.perf_counter()
    service.execute(code)
    return time.perf_counter() - started


def _figure(service: Service) -> float:
    started = time.perf_counter()
    result = service.execute(_FIGURE)
    seconds = time.perf_counter() - started
    if not any("image/png" in output["data"] for output in result["outputs"]):
        raise ServiceFailed("the result has no figure")
    return seconds


def _file_in_and_out(service: Service) -> float:
    content = os.urandom(_FILE_BYTES)
    started = time.perf_counter()
    stored = service.http.post("/v1/files", files={"file": ("in.bin", content)}).json()
    result = service.execute(_REVERSE, files=[{"path": "in.bin", "file_id": stored["file_id"]}])
    (output,) = result["files"]
    answer = service.http.get(f"/v1/files/{output['file_id']}")
    seconds = time.perf_counter() - started
    if answer.content != content[::-1]:
        raise ServiceFailed("the downloaded file differs")
    return seconds
