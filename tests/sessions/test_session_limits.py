"""Limits of calls: those of sessions and those of calls without one, in one pool, on every way in."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mcp import Client

from sessions.executions.limits import ArtifactLimits, ExecutionLimits
from sessions.models import Budget
from tests.conftest import LIGHT
from tests.mcp.support import text
from tests.support.process import Service
from tests.support.session import Session, new_session
from tests.support.sse import events

MIB = 1 << 20
BURN = "while True: sum(range(1000))"


@pytest.fixture(scope="module")
def limited(open_service: Callable[..., Service]) -> Iterator[Service]:
    """Return a service with one container at a time, whose sessions have larger limits than other calls."""
    service = open_service(
        **LIGHT,
        POOL_SIZE=1,
        MAX_CONTAINERS=2,
        QUEUE_TIMEOUT_SEC=60,
        CONTAINER_REUSE="tenant",
        MAX_EXEC_TIMEOUT_MS=15_000,
        CPU_TIME_LIMIT_SEC=1,
        MEMORY_LIMIT_MB=64,
        SESSION_EXEC_TIMEOUT_MS=20_000,
        SESSION_CPU_TIME_LIMIT_SEC=2,
        SESSION_MEMORY_LIMIT_MB=200,
    )
    yield service
    service.finish()


@pytest.fixture(scope="module")
def session(limited: Service) -> Iterator[Session]:
    """Return a session that the tests share."""
    with new_session(limited) as opened:
        yield opened


def hold(mib: int) -> str:
    """Return code that holds so much memory, long enough for the supervisor to measure it."""
    return f"import time\nheld = b'x' * ({mib} << 20)\ntime.sleep(0.3)"


# Time --------------------------------------------------------------------------------------------


async def test_one_rule_for_the_timeout_holds_on_every_way_in(limited: Service, session: Session) -> None:
    """A timeout over the limit is refused before code runs; the default is no more than the limit."""
    http = limited.api.http
    inside = f"/v1/sessions/{session.id}"
    ways: list[tuple[str, dict[str, Any], int]] = [
        ("/v1/execute", {"code": "1"}, 15_000),
        ("/v1/execute/stream", {"code": "1"}, 15_000),
        ("/v1/execute", {"code": "1", "session_id": session.id}, 20_000),
        ("/v1/execute/stream", {"code": "1", "session_id": session.id}, 20_000),
        (f"{inside}/execute", {"code": "1"}, 20_000),
        (f"{inside}/execute", {"code": "1", "detach": True}, 20_000),
        (f"{inside}/execute/stream", {"code": "1"}, 20_000),
        (f"{inside}/bash", {"cmd": "true"}, 20_000),
    ]
    for path, body, limit_ms in ways:
        longest, default = http.post(path, json=body | {"timeout_ms": limit_ms}), http.post(path, json=body)
        assert (longest.status_code, default.status_code) in ((200, 200), (202, 202)), (path, longest.text)
        for timeout_ms in (limit_ms + 1, 86_400_000, 1 << 62):
            refused = http.post(path, json=body | {"timeout_ms": timeout_ms})
            assert refused.status_code == 422, (path, body, refused.text)
            assert refused.json()["detail"] == f"timeout_ms exceeds maximum of {limit_ms} ms"
    async with Client(f"{limited.base_url}/mcp", read_timeout_seconds=60) as client:
        tools = {tool.name: tool.input_schema for tool in (await client.list_tools()).tools}
        for name, argument in (("run_python", "code"), ("run_shell", "command")):
            seconds = tools[name]["properties"]["timeout_seconds"]
            assert (seconds["maximum"], seconds["default"]) == (20, 20)
            given = {argument: "exit(0)", "timeout_seconds": 20.01}
            refused_call = await client.call_tool(name, given)
            assert "timeout_seconds is at most 20. Nothing has run." in text(refused_call)
            accepted = await client.call_tool(name, {argument: "1 + 1 #" if argument == "code" else "true"})
            assert not accepted.is_error


def test_default_timeout_is_no_longer_than_the_limit() -> None:
    """A caller who gives no timeout is never refused for it."""
    limits = ExecutionLimits(Budget(1, 1, 1, 1), 8000, ArtifactLimits(1, 1, 1))
    assert limits.timeout_ms(None, 30_000) == 8000
    assert limits.timeout_ms(None, 2000) == 2000
    assert limits.timeout_ms(8000, 2000) == 8000


# Memory ------------------------------------------------------------------------------------------


def test_calls_and_sessions_have_their_own_memory_in_one_pool(limited: Service, session: Session) -> None:
    """What is too much for a call without a session is enough for one in a session."""
    for _ in range(2):
        result = limited.api.run(hold(110))
        assert (result["exit_code"], result["error"]["name"]) == (137, "MemoryLimitExceeded")
        assert "64 MiB that MEMORY_LIMIT_MB allows" in result["error"]["value"]
        assert limited.api.run(hold(40))["exit_code"] == 0
    assert session.run(hold(110))["exit_code"] == 0


def test_answer_says_what_the_code_used(limited: Service, session: Session) -> None:
    """Memory, its limit and CPU time are in the answers of calls, cells, commands and streams."""
    session.restart()
    call = limited.api.run(hold(30))["usage"]
    assert 28 * MIB <= call["memory_bytes"] < 64 * MIB
    assert call["memory_limit_bytes"] == 64 * MIB
    burn = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    result = session.run(f"{hold(100)}\n{burn}")
    usage = result["usage"]
    assert 98 * MIB <= usage["memory_bytes"] < 150 * MIB
    assert usage["memory_limit_bytes"] == 200 * MIB
    assert 0.5 <= usage["cpu_seconds"] < 2
    path = f"/v1/sessions/{session.id}"
    assert limited.api.http.get(f"{path}/cells/{result['cell_id']}").json()["result"]["usage"] == usage
    command = session.bash("true")["usage"]
    assert command["memory_bytes"] >= 98 * MIB, "the session's variables count"
    with limited.api.http.stream("POST", f"{path}/execute/stream", json={"code": "del held"}) as response:
        [last] = [event.data for event in events(response.iter_raw()) if event.type == "result"]
    assert last["usage"]["memory_limit_bytes"] == 200 * MIB


def test_warning_comes_before_the_memory_runs_out(session: Session) -> None:
    """From 80% of the limit, the notice has the numbers and the name of the setting."""
    session.restart()
    assert session.run(hold(110))["notice"] == ""
    session.run("del held")
    notice = session.run(hold(180))["notice"]
    assert "SESSION_MEMORY_LIMIT_MB=200 MiB" in notice
    session.run("del held")
    assert session.run("1")["notice"] == ""
    result = session.run(hold(280))
    assert (result["exit_code"], result["state"], result["notice"]) == (137, "restarted", "")
    message = "[MemoryLimitExceeded: the code needed more memory than the 200 MiB that SESSION"
    assert result["stderr"].count(message) == 1


# CPU time ----------------------------------------------------------------------------------------


def test_limit_of_cpu_time_interrupts_and_keeps_the_variables(limited: Service, session: Session) -> None:
    """The error names the setting of the session, or of calls without one."""
    session.run("marker = 'here'")
    result = session.run("while True: pass")
    assert (result["exit_code"], result["state"]) == (152, "kept")
    assert result["error"]["name"] == "CpuTimeLimitExceeded"
    assert "SESSION_CPU_TIME_LIMIT_SEC=2 s" in result["error"]["value"]
    assert result["stderr"].count("CpuTimeLimitExceeded") == 1
    assert session.printed("marker") == "'here'"
    result = limited.api.run(f"try:\n    {BURN}\nfinally:\n    print('undone')")
    assert (result["exit_code"], result["stdout"]) == (152, "undone\n")
    assert " CPU_TIME_LIMIT_SEC=1 s" in result["error"]["value"]


def test_code_that_ignores_the_interrupt_is_killed(session: Session) -> None:
    """It may catch the interrupt, or ignore the signal."""
    for code in (
        f"while True:\n    try:\n        {BURN}\n    except KeyboardInterrupt: pass",
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
    ):
        result = session.run(f"print('said')\n{code}")
        assert (result["exit_code"], result["state"], result["stdout"]) == (152, "restarted", "said\n")
        assert result["error"]["name"] == "CpuTimeLimitExceeded"


@pytest.mark.parametrize(
    "command",
    ["while :; do :; done", "python3 -c 'while True: pass'", "trap '' INT; while :; do :; done"],
)
def test_command_over_the_cpu_limit_ends(session: Session, command: str) -> None:
    """The kernel and its variables are kept."""
    session.run("marker = 'here'")
    result = session.bash(command)
    assert (result["exit_code"], result["timed_out"]) == (152, False)
    assert "SESSION_CPU_TIME_LIMIT_SEC=2 s" in result["stderr"]
    assert session.printed("marker") == "'here'"
