"""Tests of container reuse: a used container is as new, serves only its tenant, and is destroyed in doubt."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LIGHT, StartService, serving
from tests.support.keys import KeyedService
from tests.support.process import Service

pytestmark = pytest.mark.timeout(300)

INSIDE = Path(__file__).parents[1] / "inside"
LEAVE, CLOSED, LOOK = ((INSIDE / name).read_text() for name in ("leave.py", "closed.py", "look.py"))
ROUNDS = 100


@pytest.fixture(scope="module")
def reusing(open_service: Callable[..., Service]) -> Iterator[Service]:
    """Start a service that has one container and uses it again."""
    yield from serving(
        open_service,
        **LIGHT,
        CONTAINER_REUSE="tenant",
        POOL_SIZE=1,
        MAX_CONTAINERS=1,
        CPU_TIME_LIMIT_SEC=20,
        MAX_EXEC_TIMEOUT_MS=20_000,
    )


def facts(service: Service) -> dict[str, Any]:
    """Run `tests/inside/look.py` and return what it found."""
    result = service.api.run(LOOK, timeout_ms=15_000)
    assert result["exit_code"] == 0, result["stderr"][-2000:]
    found: dict[str, Any] = json.loads(result["stdout"])
    return found


def test_nothing_is_left_in_a_hundred_rounds(reusing: Service, request: pytest.FixtureRequest) -> None:
    """One program leaves everything it can. The next one, in the same container, finds nothing of it.

    Connections in the state TIME_WAIT cost a pod, see `test_closed_connections_keep_no_port`.
    """
    leave = LEAVE if request.config.getoption("--backend") == "kubernetes" else f"{LEAVE}\n{CLOSED}"
    container = reusing.settle()
    fresh = facts(reusing)
    for number in range(ROUNDS):
        result = reusing.api.run(leave, timeout_ms=15_000)
        assert result["exit_code"] == 0, result["stderr"][-2000:]
        found = facts(reusing)
        differing = {name: (value, fresh[name]) for name, value in found.items() if value != fresh[name]}
        assert differing == {}, f"in round {number}"
    assert reusing.settle() == container, reusing.log_tail()


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import os; os._exit(0)",
        "import os; os.kill(os.getpid(), 9)",
        "hoard = []\nwhile True: hoard.append(bytearray(b'x') * 50_000_000)",
        "for i in range(6000): open(f'{i}', 'w').close()",
        "import ctypes; assert ctypes.CDLL(None).shmget(1, 100_000, 0o1666) != -1",
    ],
    ids=["a timeout", "an exit", "a signal", "no memory", "too much to remove", "a System V object"],
)
def test_a_container_in_doubt_is_destroyed(reusing: Service, code: str) -> None:
    """After a timeout, a signal, an exit or a lack of memory, the container is not used again."""
    before = reusing.settle()
    reusing.api.run(code, timeout_ms=2000)
    assert reusing.api.run("print('next')", timeout_ms=15_000)["stdout"] == "next\n"
    assert not before & reusing.settle()


def test_an_exception_does_not_cost_the_container(reusing: Service) -> None:
    """A program that raises leaves no more than one that succeeds, so the container is used again."""
    before = reusing.settle()
    assert reusing.api.run("1 / 0")["exit_code"] == 1
    assert reusing.api.run("print('next')")["stdout"] == "next\n"
    assert reusing.settle() == before


def test_containers_in_doubt_are_reported_once_a_minute(start_service: StartService) -> None:
    """The warning says what differs. Further containers are counted and not logged one by one."""
    service = start_service(CONTAINER_REUSE="tenant", POOL_SIZE=1, MAX_CONTAINERS=1)
    seen = set()
    for _ in range(3):
        seen |= service.settle()
        service.api.run("import ctypes; ctypes.CDLL(None).shmget(1, 100_000, 0o1666)")
    assert len(seen | service.settle()) == 4
    warnings = [line for line in service.log_tail().splitlines() if "is not used again" in line]
    assert len(warnings) == 1, warnings
    assert "POST /scrub: 409: System V objects were created" in warnings[0]


@pytest.mark.parametrize("keys", [{}, {"API_KEYS": "a:one,b:two"}], ids=["unchecked", "checked"])
def test_a_container_is_never_used_across_keys(start_service: StartService, keys: dict[str, str]) -> None:
    """Each API key has containers of its own. If there is room for one only, the other key's is destroyed."""
    service = start_service(CONTAINER_REUSE="tenant", POOL_SIZE=1, MAX_CONTAINERS=1, **keys)
    used: dict[str, set[str]] = {"one": set(), "two": set()}
    for _ in range(2):
        for key in used:
            response = service.api.http.post(
                "/v1/execute", json={"code": "print(1)"}, headers={"X-API-Key": key}, timeout=60
            )
            assert response.status_code == 200, response.text
            used[key] |= service.settle()
    assert not used["one"] & used["two"]


def test_idle_containers_of_other_keys_make_no_caller_wait(watched: KeyedService) -> None:
    """A key without a container gets a new one, however many are ready for other keys."""
    for number in range(5):
        response = watched.api(f"one-of-many-{number}").execute("1")
        assert response.status_code == 200, response.text
        deadline = time.monotonic() + 60
        while watched.service.pool()["busy"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_container_is_destroyed_after_its_last_use(start_service: StartService) -> None:
    """A container is used again `CONTAINER_MAX_USES` times."""
    service = start_service(CONTAINER_REUSE="tenant", POOL_SIZE=1, MAX_CONTAINERS=1, CONTAINER_MAX_USES=3)
    used_containers = []
    for _ in range(8):
        used_containers.append(min(service.settle()))
        service.api.run("1")
    assert [used_containers.count(container) for container in dict.fromkeys(used_containers)] == [4, 4]


def test_many_callers_share_few_containers(start_service: StartService) -> None:
    """Each of more callers than containers gets its own answer, and none sees another's variables."""
    service = start_service(CONTAINER_REUSE="tenant", POOL_SIZE=2, MAX_CONTAINERS=3, QUEUE_SIZE=100)
    code = "print('mine' in globals()); mine = {0}; print(mine)"
    with ThreadPoolExecutor(12) as threads:
        results = list(threads.map(lambda i: service.api.run(code.format(i)), range(60)))
    assert [result["stdout"] for result in results] == [f"False\n{i}\n" for i in range(60)]
