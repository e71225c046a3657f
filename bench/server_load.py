"""CPU time of the server's process for an execution, and its memory while code prints gigabytes."""

import time
from dataclasses import dataclass, field

from bench.engine import Engine
from bench.progress import say
from bench.service import Service, ServiceFailed

_REFILL_SEC = 3.0
"""Time for the next container to become ready after an execution. Polling would use CPU time."""
_BLOCK_BYTES = 1 << 20
_CPU_LIMIT_SEC = 300


@dataclass
class ServerCpu:
    """CPU seconds of the server's process for each `1+1`."""

    answering: list[float] = field(default_factory=list)
    """Seconds from each request to its answer."""
    altogether: list[float] = field(default_factory=list)
    """The same seconds, with the removal of the container and the start of the next one."""


@dataclass(frozen=True)
class Flood:
    """The server's resident memory around an execution that prints `printed_bytes`."""

    name: str
    printed_bytes: int
    seconds: float
    before_bytes: int
    peak_bytes: int

    @property
    def growth_bytes(self) -> int:
        """The peak of resident memory minus the memory before."""
        return self.peak_bytes - self.before_bytes


def cpu_per_execution(service: Service, executions: int) -> ServerCpu:
    """Run `1+1` repeatedly, each time with a full pool."""
    used = ServerCpu()
    for number in range(executions):
        service.settle()
        before = service.process.cpu_seconds()
        service.execute("1+1")
        used.answering.append(service.process.cpu_seconds() - before)
        time.sleep(_REFILL_SEC)
        used.altogether.append(service.process.cpu_seconds() - before)
        say(f"CPU of the server: execution {number + 1} of {executions}")
    return used


def floods(engine: Engine, printed_bytes: int) -> list[Flood]:
    """Run code that prints `printed_bytes`, with long time limits and other settings at their defaults."""
    times = printed_bytes // _BLOCK_BYTES
    by_print = f"text = 'x' * {_BLOCK_BYTES - 1}\nfor _ in range({times}): print(text)"
    by_write = f"import os\nblock = b'x' * {_BLOCK_BYTES}\nfor _ in range({times}): os.write(1, block)"
    limits = {
        "CPU_TIME_LIMIT_SEC": str(_CPU_LIMIT_SEC),
        "MAX_EXEC_TIMEOUT_MS": str(1000 * _CPU_LIMIT_SEC),
    }
    with Service(engine, **limits) as service:
        service.execute("print('x')")
        return [
            _flood(service, "`print`, `/v1/execute`", "/v1/execute", by_print, printed_bytes),
            _flood(service, "`os.write`, `/v1/execute`", "/v1/execute", by_write, printed_bytes),
            _flood(
                service,
                "`print`, `/v1/execute/stream`",
                "/v1/execute/stream",
                by_print,
                printed_bytes,
            ),
        ]


def _flood(service: Service, name: str, path: str, code: str, printed_bytes: int) -> Flood:
    say(f"memory of the server: {name} of {printed_bytes >> 20} MiB")
    service.settle()
    before = service.process.resident_bytes()
    service.process.reset_peak()
    started = time.perf_counter()
    body = {"code": code, "timeout_ms": 1000 * _CPU_LIMIT_SEC}
    with service.http.stream("POST", path, json=body) as answer:
        received = b"".join(answer.iter_raw())
    seconds = time.perf_counter() - started
    if answer.status_code != 200 or b'"exit_code": 0' not in received.replace(b'":0', b'": 0'):
        raise ServiceFailed(f"{answer.status_code}: {received[-1000:]!r}")
    return Flood(name, printed_bytes, seconds, before, service.process.peak_bytes())
