"""Tests of sessions while their service is killed, restarted, absent, or beside another service."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from textwrap import dedent

import httpx
import pytest

from tests.conftest import StartService
from tests.support.api import problem
from tests.support.process import Service
from tests.support.session import Session, live_sessions, new_session

pytestmark = pytest.mark.timeout(150)


WAIT_FOR_GO = "while not os.path.exists('go.txt'): time.sleep(0.02)"


def container_of(session: Session) -> str:
    """Return the id of a session's container. Runs one call in the session."""
    service = session.service
    address = session.printed("import socket; print(socket.gethostbyname(socket.gethostname()))")
    (container_id,) = (
        str(container["Id"])
        for container in service.engine.inspected(service.instance_id)
        if address in [network["IPAddress"] for network in container["NetworkSettings"]["Networks"].values()]
    )
    return container_id


def settled_with(service: Service, containers: set[str], seconds: float = 60) -> None:
    """Wait until the service has a full pool and these containers, and no others."""
    deadline = time.monotonic() + seconds
    while True:
        ids, target = service.engine.kernels(service.instance_id), service.pool()["target"]
        if containers <= ids and len(ids) == len(containers) + target:
            return
        assert time.monotonic() < deadline, f"{len(ids)} containers, {len(containers)} of them for sessions"
        time.sleep(0.2)


def in_background(session: Session, code: str) -> threading.Thread:
    """Run code in a thread, and ignore the error when the service is killed during the call."""

    def call() -> None:
        with suppress(Exception):
            session.execute(code)

    thread = threading.Thread(target=call)
    thread.start()
    return thread


def abandon_containers(service: Service) -> None:
    """Do what `test_containers_end_when_the_service_never_returns` describes."""
    with new_session(service) as own_session:
        own_session.run("marker = 'here'")
        container = container_of(own_session)
        settled_with(service, {container})
        before = service.engine.kernels(service.instance_id)
        time.sleep(8)
        assert service.engine.kernels(service.instance_id) == before, "the leases were renewed"
        assert own_session.printed("marker") == "'here'"
        identity = service.instance_id
        service.crash()
        deadline = time.monotonic() + 60
        while (left := service.engine.kernels(identity)) > {container} and time.monotonic() < deadline:
            time.sleep(0.2)
        assert left == {container}
        assert service.engine.wait_for_none(identity, 60) == set()
        service.restart()
        assert own_session.wait_until_ended()["reason"] == "lost"


@pytest.fixture(scope="module", autouse=True)
def abandoned(beside: Callable[..., Future[None]]) -> Future[None]:
    """Start the longest test before all others, so that it runs at the same time."""
    return beside(abandon_containers, POOL_SIZE=1, LEASE_SEC=3, SESSION_LEASE_SEC=15)


def test_sessions_survive_a_kill_of_the_service(start_service: StartService) -> None:
    """After SIGKILL during cells and a new start, sessions, variables and results are kept.

    One session is idle. One cell ends while no service runs, one ends after the restart, and one never
    ends and is stopped after its timeout. The new service removes the pool of the killed one.
    """
    service = start_service(POOL_SIZE=1, MAX_EXEC_TIMEOUT_MS=60_000)
    with ExitStack() as stack:
        idle, short, long, endless = (stack.enter_context(new_session(service)) for _ in range(4))
        sessions = (idle, short, long, endless)
        for one in sessions:
            one.run("import os, time\nmarker = 'here'\nwith open('kept.txt', 'w') as f: _ = f.write('kept')")
        containers = {container_of(one) for one in sessions}
        before = [one.describe() for one in sessions]
        settled_with(service, containers)
        identity, pool = (
            service.instance_id,
            service.engine.kernels(service.instance_id) - containers,
        )

        cell = dedent("""
            print("early")
            display("shown early")
            {wait}
            print("late")
            with open("made.txt", "w") as file: _ = file.write("made")
            finished = "yes"
            "value"
        """)
        waiting = in_background(short, cell.format(wait="time.sleep(2)"))
        detached = long.detach(cell.format(wait=WAIT_FOR_GO), timeout_ms=60_000)
        never = endless.detach("print('early')\ntime.sleep(300)", timeout_ms=9000)
        time.sleep(1)
        service.crash()
        waiting.join(60)
        time.sleep(2)
        assert containers <= service.engine.kernels(identity), "a crash ends no session"
        service.restart()

        assert service.instance_id == identity
        assert set(live_sessions(service.api)) == {one.id for one in sessions}
        for one, earlier in zip(sessions, before, strict=True):
            now = one.describe()
            assert (now["created_at"], now["expires_at"]) == (earlier["created_at"], earlier["expires_at"])

        assert idle.printed("print(marker, open('kept.txt').read())") == "here kept"
        assert idle.describe()["execution_count"] == before[0]["execution_count"] + 1

        assert long.describe()["state"] == "busy"
        long.put("go.txt", b"")
        for one, cell_id in ((short, short.cells()[-1]["cell_id"]), (long, detached)):
            found = one.finished(cell_id)
            assert found["state"] == "done"
            result = found["result"]
            assert (result["stdout"], result["stderr"]) == ("early\nlate\n'value'\n", "")
            assert (result["exit_code"], result["timed_out"], result["state"]) == (0, False, "kept")
            shown = [output["data"]["text/plain"] for output in result["outputs"]]
            assert shown == ["'shown early'", "'value'"]
            assert service.api.returned(result)["made.txt"] == b"made"
            assert one.printed("print(marker, finished, open('kept.txt').read())") == "here yes kept"

        stopped = endless.finished(never)["result"]
        assert stopped["timed_out"] is True
        assert stopped["stdout"] == "early\n"
        assert endless.printed("open('kept.txt').read()") == "'kept'"

        settled_with(service, containers)
        assert not pool & service.engine.kernels(identity), "the old pool has no owner"
        for one in sessions:
            assert one.delete().status_code == 204
        settled_with(service, set())


def test_session_survives_several_kills(start_service: StartService) -> None:
    """A service that is killed soon after its start, twice, keeps every cell and every result.

    A cell is registered before it is acknowledged, and a result before it is returned.
    """
    service = start_service(POOL_SIZE=1)
    with new_session(service) as own_session:
        own_session.run("import time\ndeaths = []")
        cell_id = own_session.detach("time.sleep(0.2)\ndeaths.append(0)")
        service.crash()
        service.restart()
        assert own_session.finished(cell_id)["state"] == "done"
        answer = own_session.run("deaths.append(1)\ndeaths")
        service.crash()
        service.restart()
        kept = own_session.finished(answer["cell_id"])["result"]
        assert (kept["stdout"], kept["outputs"]) == ("[0, 1]\n", answer["outputs"])
        assert own_session.printed("deaths") == "[0, 1]"
        assert [cell["state"] for cell in own_session.cells()] == ["done"] * 4


def test_rolling_restart_keeps_all_sessions(start_service: StartService) -> None:
    """A service that stops keeps the containers of sessions, and no others. Waiting callers get an error."""
    service = start_service(POOL_SIZE=1)
    with new_session(service) as idle, new_session(service) as busy, ThreadPoolExecutor() as threads:
        for one in (idle, busy):
            one.run("import time\nmarker = 'here'")
        containers = {container_of(idle), container_of(busy)}
        cell_id = busy.detach("print('early')\ntime.sleep(4)\nprint('late')\nfinished = 'yes'")
        command = {"cmd": "sleep 600", "timeout_ms": 60_000}
        waiting = threads.submit(httpx.post, f"{service.base_url}{idle.url}/bash", json=command, timeout=60)
        time.sleep(0.5)
        identity = service.instance_id
        service.stop()
        assert service.engine.owned(identity) == containers
        refusal = waiting.result()
        assert (refusal.status_code, problem(refusal)["code"]) == (503, "stopping")
        assert refusal.headers["x-request-id"] and int(refusal.headers["retry-after"]) > 0
        service.restart()
        execution = service.api.http.get(f"/v1/executions/{refusal.headers['x-execution-id']}").json()
        assert (execution["kind"], execution["outcome"]) == ("bash", "cancelled")
        assert idle.printed("marker") == "'here'"
        result = busy.finished(cell_id)["result"]
        assert (result["stdout"], result["exit_code"]) == ("early\nlate\n", 0)
        assert busy.printed("print(marker, finished)") == "here yes"


def test_session_without_its_container_is_lost(start_service: StartService) -> None:
    """The session is 410 `lost`, whether the service runs or not when the container is removed."""
    service = start_service(POOL_SIZE=1)
    with ExitStack() as stack:
        running, busy, orphaned = (stack.enter_context(new_session(service)) for _ in range(3))
        (file,) = running.run("with open('f.txt', 'w') as f: _ = f.write('kept')")["files"]
        busy.run("import time")
        containers = [container_of(session) for session in (running, busy, orphaned)]

        service.engine.remove(containers[0])
        error = running.wait_until_ended()
        assert error["reason"] == "lost"
        assert error["ended_at"] == pytest.approx(time.time(), abs=30)
        assert problem(running.execute("1"))["code"] == "session_ended"
        assert service.api.download(file["file_id"]) == b"kept"

        answered = threading.Event()

        def call() -> None:
            response = busy.execute("time.sleep(9)")
            assert response.status_code in (200, 410, 503), response.text
            if response.status_code == 200:
                assert response.json()["state"] == "lost"
            answered.set()

        caller = threading.Thread(target=call)
        caller.start()
        time.sleep(0.7)
        service.engine.remove(containers[1])
        assert answered.wait(60), "the running call was not answered"
        caller.join()
        assert busy.wait_until_ended()["reason"] == "lost"

        service.crash()
        service.engine.remove(containers[2])
        service.restart()
        assert orphaned.wait_until_ended()["reason"] == "lost"
        assert problem(orphaned.delete())["reason"] == "lost"
        assert live_sessions(service.api) == []


def test_two_services_on_one_engine_do_not_touch_each_others_sessions(
    start_service: StartService, service: Service
) -> None:
    """One of the services is killed and started again."""
    second = start_service(POOL_SIZE=1)
    with new_session(service) as session_of_first, new_session(second) as session_of_second:
        session_of_first.run("marker = 'theirs'")
        session_of_second.run("marker = 'ours'")
        container = container_of(session_of_first)
        unknown = Session(service, session_of_second.created)
        assert unknown.call("GET").status_code == 404
        second.crash()
        second.restart()
        time.sleep(2)
        assert container in service.engine.kernels(service.instance_id)
        assert (session_of_first.printed("marker"), session_of_second.printed("marker")) == (
            "'theirs'",
            "'ours'",
        )
        assert session_of_second.delete().status_code == 204
        assert session_of_first.printed("marker") == "'theirs'"


def test_containers_end_when_the_service_never_returns(abandoned: Future[None]) -> None:
    """A running service renews the leases of its containers.

    Without a service, containers of the pool end after `LEASE_SEC`, and containers of sessions after
    `SESSION_LEASE_SEC`. At the next start such a session is lost.
    """
    abandoned.result(timeout=100)


def test_session_expires_while_no_service_runs(start_service: StartService) -> None:
    """The session is `expired` at the next start, and its container is removed."""
    service = start_service(POOL_SIZE=1)
    with new_session(service, ttl_seconds=60) as own_session:
        (file,) = own_session.run("with open('f.txt', 'w') as f: _ = f.write('kept')")["files"]
        own_session.extend(2)
        service.crash()
        time.sleep(3)
        service.restart()
        assert own_session.wait_until_ended()["reason"] == "expired"
        assert service.api.download(file["file_id"]) == b"kept"
        settled_with(service, set())
