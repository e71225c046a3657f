"""Attacks on what is kept of code that runs or has run, and of the callers that wait."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any, Final

import httpx

from kernel_image.supervisor.command_pipe import CommandPipe
from sessions.containers.pool.demand import Demand
from sessions.containers.pool.queue import Queue
from tests.hostile.bounds import Attack
from tests.support.process import Service
from tests.support.session import Session, new_session

MEGABYTE: Final = 1 << 20


def _concurrently(calls: int, call: Any) -> list[Any]:
    with ThreadPoolExecutor(calls) as threads:
        return list(threads.map(call, range(calls)))


def _post(service: Service, path: str, **body: Any) -> httpx.Response:
    with httpx.Client(base_url=service.base_url, timeout=120) as client:
        return client.post(path, json=body)


def endless_text(service: Service) -> None:
    """Two executions print 100 MB each, in large pieces and in single characters."""
    codes = ("for _ in range(100): print('x' * 1_000_000)", "import os\nwhile True: os.write(1, b'x')")
    for code in codes:
        results = _concurrently(2, lambda _, code=code: service.api.execute(code, timeout_ms=2000).json())
        assert all(len(result["stdout"]) < 1.1 * MEGABYTE for result in results)


def endless_displays(service: Service) -> None:
    """Displays that are added, updated and cleared without end, and one that is larger than a message."""
    codes = {
        "added": "for _ in range(50): display('x' * 4_000_000)",
        "updated": "shown = display('', display_id=True)\nfor _ in range(50): shown.update('x' * 4_000_000)",
        "cleared": "from IPython.display import clear_output\n"
        "for _ in range(50): clear_output(wait=True); display('x' * 4_000_000)",
        "one": "kernel = get_ipython().kernel\n"
        "content = {'data': {'text/plain': 'x' * 18_000_000}, 'metadata': {}}\n"
        "kernel.session.send(kernel.iopub_socket, 'display_data', content, parent=kernel.get_parent())",
        "values": "from IPython.display import JSON\n"
        "for _ in range(20): display(JSON({'a': [[]] * 400_000}))",
    }
    for name, code in codes.items():
        result = service.api.run(code, timeout_ms=20_000)
        assert "outputs" in result["truncated"], name
        assert sum(len(str(output)) for output in result["outputs"]) < 11 * MEGABYTE, name


def alternating_outputs(service: Service) -> None:
    """Text and displays alternate ten thousand times."""
    code = "for _ in range(10_000): print('x'); display('y')"
    answer = service.api.http.post(
        "/v1/execute", params={"outputs": "ordered"}, json={"code": code, "timeout_ms": 20_000}, timeout=60
    )
    assert answer.status_code == 200
    texts = [output for output in answer.json()["outputs"] if output["output_type"] == "stream"]
    assert len(texts) <= 4001, len(texts)


def sessions_at_rest(service: Service) -> None:
    """Sessions that wait for their next call keep nothing of what their last cell printed and showed."""
    sizes = []
    with ExitStack() as stack:
        for _ in range(5):
            session = stack.enter_context(new_session(service))
            session.run("print('x' * 1_000_000)\nfor _ in range(2): display('x' * 2_000_000)")
            sizes.append(service.resident_kb())
    # The first answers take memory that Python reuses for the next ones.
    assert sizes[-1] - sizes[1] < 10 * 1024, sizes


def large_prompts(service: Service) -> None:
    """A prompt of 30 MB is not passed on."""
    with new_session(service) as session:
        code = "for _ in range(100): input('x' * 300_000)"
        with session.api.open_stream_at(f"{session.url}/execute/stream", code, allow_stdin=True) as events:
            assert sum(len(str(event.data)) for event in events) < MEGABYTE


def many_files(service: Service) -> None:
    """Twelve thousand new files with long names are reported in part."""
    code = (
        "import os\nfor number in range(12_000):\n"
        "    os.close(os.open(f'{number}' + 'x' * 200, os.O_CREAT | os.O_WRONLY))"
    )
    result = service.api.run(code, timeout_ms=20_000)
    assert len(result["files"]) == 64
    assert len(result["skipped_files"]) <= 10_001


def many_callers(service: Service) -> None:
    """Two hundred callers wait for a container, or are refused."""
    body = {"code": "import time; time.sleep(0.3)" + "#" * 60_000, "timeout_ms": 10_000}
    statuses = _concurrently(200, lambda _: _post(service, "/v1/execute", **body).status_code)
    assert set(statuses) == {200, 429}


def many_calls_of_a_session(service: Service) -> None:
    """A hundred calls wait for one session, or are refused."""
    with new_session(service) as session:

        def call(_: int) -> int:
            code = "import time; time.sleep(0.2)" + "#" * 60_000
            return _post(service, f"{session.url}/execute", code=code, timeout_ms=10_000).status_code

        assert set(_concurrently(100, call)) == {200, 409}


def first_process(service: Service) -> None:
    """PID 1 of a container keeps what one cell may print and record, and no more."""
    with new_session(service) as session:
        before = _first_process_kb(session)
        for _ in range(3):
            session.run("for _ in range(9): display('x' * 1_000_000)\nprint('x' * 5_000_000)")
        assert _first_process_kb(session) - before < 60 * 1024


def _first_process_kb(session: Session) -> int:
    return int(session.bash("grep VmRSS /proc/1/status")["stdout"].split()[1])


def unread_commands(_: Service) -> None:
    """PID 1 keeps 64 MiB of commands for a kernel that does not read them, and refuses the next one."""

    async def send() -> int:
        pipe = CommandPipe()
        sent = 0
        try:
            with suppress(OSError):
                for _number in range(100):
                    pipe.send(b"x" * MEGABYTE)
                    sent += 1
        finally:
            pipe.close()
            pipe.close_reader()
        return sent

    assert asyncio.run(send()) == 64


def arrivals(_: Service) -> None:
    """A million callers within a second are remembered in part."""
    demand = Demand(1, 8, clock=lambda: 0.0)
    for _number in range(1_000_000):
        demand.arrived()
    assert demand.target == 8
    assert sys.getsizeof(demand._arrivals) < 200_000


def tenants(_: Service) -> None:
    """The last turns of a hundred thousand tenants are remembered in part."""
    queue = Queue()
    for number in range(100_000):
        queue.had_turn(f"{number}")
    assert len(queue._last_turn) <= 10_001


ATTACKS: Final[dict[str, Attack]] = {
    "text of a cell": endless_text,
    "displays of a cell": endless_displays,
    "places of text among the displays of a cell": alternating_outputs,
    "output of a session's last cell": sessions_at_rest,
    "prompts of a cell": large_prompts,
    "report of changed files": many_files,
    "callers that wait for a container": many_callers,
    "calls that wait for a session": many_calls_of_a_session,
    "text and record of the last cell, in the container's PID 1": first_process,
    "commands that a kernel does not read": unread_commands,
    "recent callers, for the number of ready containers": arrivals,
    "tenants whose turn is remembered": tenants,
}
