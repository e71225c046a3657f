"""Sessions: compared with a Jupyter client, 50 at the same time, short ones, and transfers of large files."""

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection

import httpx
from jupyter_client.blocking.client import BlockingKernelClient

from bench.engine import Engine
from bench.progress import say
from bench.report import table
from bench.service import Service, ServiceFailed
from bench.statistics import median, percentile_99
from service.settings.containers import ContainerSettings

_MIB = 1 << 20
_ROUNDS_BEFORE = 20
_FILE_MB = 100
_CHUNK_BYTES = 1 << 18
_CHURN_WARM_UP_SEC = 3.0


@dataclass
class SessionLatency:
    """Seconds of each `1+1` in one kernel, over HTTP and with a Jupyter client."""

    over_http: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)


@dataclass
class ManySessions:
    """Many sessions that run `1+1` in turn for `seconds`."""

    sessions: int
    seconds: float
    alone: list[float] = field(default_factory=list)
    """Seconds of each execution while there was one session."""
    together: list[float] = field(default_factory=list)
    errors: int = 0
    server_before_bytes: int = 0
    server_after_bytes: int = 0
    idle_session_bytes: int = 0
    """Memory of one idle session's container."""


@dataclass(frozen=True)
class Transfer:
    """Upload and download of a large file in a session, and the server's growth."""

    megabytes: int
    in_mb_per_sec: float
    out_mb_per_sec: float
    server_growth_bytes: int


def _open(client: httpx.Client) -> str:
    answer = client.post("/v1/sessions", json={"ttl_seconds": 3600})
    if answer.status_code != 201:
        raise ServiceFailed(f"{answer.status_code}: {answer.text[:500]}")
    session_id: str = answer.json()["session_id"]
    return session_id


def _run(client: httpx.Client, session_id: str) -> float:
    started = time.perf_counter()
    answer = client.post(f"/v1/sessions/{session_id}/execute", json={"code": "1+1"})
    seconds = time.perf_counter() - started
    if answer.status_code != 200 or answer.json()["stdout"] != "2\n":
        raise ServiceFailed(f"{answer.status_code}: {answer.text[:500]}")
    return seconds


def _stdlib_client(service: Service, session_id: str) -> Callable[[], float]:
    """Return a function that runs `1+1` with a small client, because the client's time is measured, too."""
    address = service.http.base_url
    connection = HTTPConnection(address.host, address.port)
    path = f"/v1/sessions/{session_id}/execute"

    def run() -> float:
        started = time.perf_counter()
        connection.request("POST", path, b'{"code": "1+1"}', {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        seconds = time.perf_counter() - started
        if answer["stdout"] != "2\n":
            raise ServiceFailed(str(answer))
        return seconds

    return run


def _bare_client(service: Service, session_id: str) -> BlockingKernelClient:
    """Connect a Jupyter client to the session's kernel, whose address is in the registry."""
    with sqlite3.connect(service.storage / "registry.sqlite3") as registry:
        address, shell, iopub, key = registry.execute(
            "select address, shell_port, iopub_port, kernel_key from containers"
            " join sessions using (container_id) where session_id = ?",
            (session_id,),
        ).fetchone()
    client = BlockingKernelClient()
    client.load_connection_info(
        {"transport": "tcp", "ip": address, "shell_port": shell, "iopub_port": iopub, "key": key}
    )
    client.start_channels(shell=True, iopub=True, stdin=False, hb=False, control=False)
    return client


def _run_bare(client: BlockingKernelClient) -> float:
    started = time.perf_counter()
    request = client.execute("1+1")
    waiting = {"execute_result", "idle"}
    while waiting:
        message = client.get_iopub_msg(timeout=10)
        if message["parent_header"].get("msg_id") == request:
            waiting.discard(message["msg_type"])
            waiting.discard(message["content"].get("execution_state", ""))
    client.get_shell_msg(timeout=10)
    return time.perf_counter() - started


def beside_bare_client(engine: Engine, rounds: int) -> SessionLatency:
    """Measure both in turn with one kernel, so that a disturbance affects both."""
    measured = SessionLatency()
    with Service(engine) as service:
        session_id = _open(service.http)
        service.settle()
        client = _bare_client(service, session_id)
        run = _stdlib_client(service, session_id)
        time.sleep(1)
        for number in range(-_ROUNDS_BEFORE, rounds):
            over_http, bare = run(), _run_bare(client)
            if number >= 0:
                measured.over_http.append(over_http)
                measured.bare.append(bare)
        client.stop_channels()
        service.http.delete(f"/v1/sessions/{session_id}")
    say("sessions: beside a bare client done")
    return measured


def many(engine: Engine, sessions: int, seconds: float) -> ManySessions:
    """Open sessions, then run code in each of them in turn."""
    measured = ManySessions(sessions, seconds)
    room = {"MAX_SESSIONS": str(sessions), "MAX_CONTAINERS": str(sessions + 4), "QUEUE_TIMEOUT_SEC": "120"}
    with Service(engine, **room) as service:
        opened = [_open(service.http)]
        service.settle()
        measured.alone = [_run(service.http, opened[0]) for _ in range(100)]
        while len(opened) < sessions:
            opened.append(_open(service.http))
            say(f"sessions: {len(opened)} of {sessions} open")
        service.settle()
        for session_id in opened:
            _run(service.http, session_id)
        measured.idle_session_bytes = engine.held_bytes(service.instance_id) // (sessions + 2)
        measured.server_before_bytes = service.process.resident_bytes()
        until = time.monotonic() + seconds
        for session_id in _round_and_round(opened, lambda: time.monotonic() < until):
            try:
                measured.together.append(_run(service.http, session_id))
            except ServiceFailed as failure:
                measured.errors += 1
                say(str(failure))
        measured.server_after_bytes = service.process.resident_bytes()
        for session_id in opened:
            service.http.delete(f"/v1/sessions/{session_id}")
    return measured


def _round_and_round(sessions: list[str], go_on: Callable[[], bool]) -> Iterator[str]:
    while go_on():
        yield from sessions


def churn(engine: Engine, callers: int, seconds: float) -> float:
    """Create a session, run `1+1` and delete the session, again and again. Return the sessions per second."""

    def one_caller(until: float) -> int:
        done = 0
        with httpx.Client(base_url=service.http.base_url, timeout=60) as client:
            while time.monotonic() < until:
                session_id = _open(client)
                _run(client, session_id)
                client.delete(f"/v1/sessions/{session_id}").raise_for_status()
                done += 1
        return done

    with Service(engine, QUEUE_TIMEOUT_SEC="60") as service, ThreadPoolExecutor(callers) as threads:
        service.settle()
        # The first round replaces the pool's new containers by used ones.
        list(threads.map(one_caller, [time.monotonic() + _CHURN_WARM_UP_SEC] * callers))
        started = time.monotonic()
        done = sum(threads.map(one_caller, [started + seconds] * callers))
        per_second = done / (time.monotonic() - started)
    say("sessions: short ones done")
    return per_second


def transfer(engine: Engine) -> Transfer:
    """Upload a large file to a session in chunks, and download it."""
    chunk = os.urandom(_CHUNK_BYTES)
    chunks = _FILE_MB * (1 << 20) // _CHUNK_BYTES
    room = {"MAX_FILE_SIZE_MB": str(_FILE_MB), "WORKSPACE_SIZE_MB": str(2 * _FILE_MB)}
    with Service(engine, **room) as service:
        session_id = _open(service.http)
        url = f"/v1/sessions/{session_id}/files/large.bin"
        service.settle()
        before = service.process.resident_bytes()
        service.process.reset_peak()
        started = time.perf_counter()
        answer = service.http.put(url, content=(chunk for _ in range(chunks)))
        if answer.status_code != 201:
            raise ServiceFailed(f"{answer.status_code}: {answer.text[:500]}")
        written = time.perf_counter()
        with service.http.stream("GET", url) as download:
            size = sum(len(part) for part in download.iter_raw())
        read = time.perf_counter()
        if size != chunks * _CHUNK_BYTES:
            raise ServiceFailed("the downloaded file is too short")
        growth = service.process.peak_bytes() - before
        service.http.delete(f"/v1/sessions/{session_id}")
    say("sessions: transfer done")
    return Transfer(_FILE_MB, _FILE_MB / (written - started), _FILE_MB / (read - written), growth)


def main() -> None:
    """Measure, and print the table: `python -m bench.sessions`."""
    engine = Engine(ContainerSettings().python_executor_docker_image)
    try:
        beside = beside_bare_client(engine, rounds=200)
        crowd = many(engine, sessions=50, seconds=60)
        short = churn(engine, callers=8, seconds=20)
        large = transfer(engine)
    finally:
        engine.close()
    http, bare, alone = (median(values) for values in (beside.over_http, beside.bare, crowd.alone))
    slowest = percentile_99(crowd.together)
    growth = (crowd.server_after_bytes - crowd.server_before_bytes) / _MIB
    rows = [
        ["1+1 in a session, over HTTP", f"{http * 1000:.1f} ms", ""],
        ["1+1 in the same kernel, with jupyter_client", f"{bare * 1000:.1f} ms", ""],
        ["ratio", f"{http / bare:.2f}", "at most 1.5"],
        [f"{crowd.sessions} sessions in turn, {crowd.seconds:.0f} s: errors", str(crowd.errors), "0"],
        ["their p99, as a multiple of one session's median", f"{slowest / alone:.1f}", "under 10"],
        ["growth of the server", f"{growth:.1f} MiB", "flat"],
        ["memory of an idle session", f"{crowd.idle_session_bytes / _MIB:.0f} MiB", ""],
        ["created, one call, deleted, by 8 callers", f"{short:.1f}/s", "at least 15/s"],
        [f"upload of {large.megabytes} MB to a session", f"{large.in_mb_per_sec:.0f} MB/s", ""],
        [f"download of {large.megabytes} MB", f"{large.out_mb_per_sec:.0f} MB/s", ""],
        ["growth of the server", f"{large.server_growth_bytes / _MIB:.1f} MiB", "flat"],
    ]
    print(table(["sessions", "", "target"], rows))


if __name__ == "__main__":
    main()
