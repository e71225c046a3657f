"""Sessions: how they begin and end, and what lasts from one call to the next."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from textwrap import dedent
from typing import Any

import httpx
import pytest

from tests.conftest import serving
from tests.support.api import Body, problem
from tests.support.process import Service
from tests.support.session import Session, check_session_result, live_sessions, new_session
from tests.support.sse import text_of
from tests.support.waiting import soon

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


def use_and_leave(idle: Service) -> None:
    """Do what `test_idle_session_ends` describes."""
    with new_session(idle) as own_session:
        for _ in range(4):
            time.sleep(2)
            assert own_session.printed("'used'") == "'used'"
        assert own_session.printed("import time; time.sleep(6.5); 'awake'") == "'awake'"
        now = own_session.describe()
        assert now["idle_expires_at"] == pytest.approx(now["last_used_at"] + 5, abs=0.5)
        error, waited = timed(own_session.wait_until_ended)
        assert error["reason"] == "idle"
        assert waited > 1.5
        assert problem(own_session.execute("1"))["reason"] == "idle"
        assert problem(own_session.delete())["reason"] == "idle"


@pytest.fixture(scope="module", autouse=True)
def unused(beside: Callable[..., Future[None]]) -> Future[None]:
    """Start the longest test before all others, so that it runs at the same time."""
    return beside(use_and_leave, POOL_SIZE=1, SESSION_IDLE_SEC=5)


@pytest.fixture(scope="module")
def small(open_service: Callable[..., Service]) -> Iterator[Service]:
    """A service with room for two sessions, and for one call that waits in each."""
    yield from serving(
        open_service,
        POOL_SIZE=1,
        MAX_SESSIONS=2,
        SESSION_QUEUE_SIZE=1,
        SESSION_QUEUE_TIMEOUT_SEC=5,
        MAX_EXEC_TIMEOUT_MS=60_000,
    )


@pytest.fixture(scope="module")
def small_session(small: Service) -> Iterator[Session]:
    """One session of the small service."""
    with new_session(small) as opened:
        yield opened


EVERY_CALL: dict[str, Callable[[Session], httpx.Response]] = {
    "get": lambda s: s.call("GET"),
    "extend": lambda s: s.call("PATCH", json={"ttl_seconds": 60}),
    "execute": lambda s: s.execute("1"),
    "stream": lambda s: s.call("POST", "/execute/stream", json={"code": "1"}),
    "by id": lambda s: s.api.execute("1", session_id=s.id),
    "stream by id": lambda s: s.api.http.post("/v1/execute/stream", json={"code": "1", "session_id": s.id}),
    "bash": lambda s: s.call("POST", "/bash", json={"cmd": "true"}),
    "input": lambda s: s.call("POST", "/input", json={"value": "x"}),
    "complete": lambda s: s.call("POST", "/complete", json={"code": "pri"}),
    "inspect": lambda s: s.call("POST", "/inspect", json={"code": "print"}),
    "interrupt": lambda s: s.call("POST", "/interrupt"),
    "restart": lambda s: s.call("POST", "/restart"),
    "files": lambda s: s.call("GET", "/files"),
    "read": lambda s: s.file("GET", "f.txt"),
    "write": lambda s: s.file("PUT", "f.txt", content=b"x"),
    "rename": lambda s: s.file("PATCH", "f.txt", json={"path": "g.txt"}),
    "remove": lambda s: s.file("DELETE", "f.txt"),
}
"""Everything one can ask of a session that lives, but to delete it."""

HISTORY: dict[str, Callable[[Session], httpx.Response]] = {
    "cells": lambda s: s.call("GET", "/cells"),
    "cell": lambda s: s.call("GET", f"/cells/{uuid.uuid4().hex}"),
    "notebook": lambda s: s.call("GET", "/notebook"),
}
"""Calls that also work for a session that has ended."""


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a call, and its duration in seconds."""
    began = time.monotonic()
    return call(), time.monotonic() - began


# Beginning and end -------------------------------------------------------------------------------


def test_session_is_created_listed_extended_and_deleted(service: Service) -> None:
    """After the deletion every call is 410 with the reason `deleted`. Only the history can still be read."""
    began = time.time()
    with new_session(service) as own_session:
        created = own_session.created
        assert str(uuid.UUID(own_session.id)) == own_session.id
        assert began - 1 < created["created_at"] < time.time() + 1
        assert created["expires_at"] == pytest.approx(created["created_at"] + 900, abs=1)
        assert (created["state"], created["execution_count"]) == ("ready", 0)
        assert created["idle_expires_at"] is None, "there is no idle limit unless one is set"
        assert own_session.id in live_sessions(service.api)
        assert own_session.describe() == created

        assert own_session.printed("1 + 1") == "2"
        used = own_session.describe()
        assert used["last_used_at"] > created["last_used_at"]
        assert used["execution_count"] == 1
        extended = own_session.extend(3600)
        assert extended["expires_at"] == pytest.approx(time.time() + 3600, abs=2)
        assert own_session.describe()["expires_at"] == extended["expires_at"]
        assert own_session.extend(60)["expires_at"] == pytest.approx(time.time() + 60, abs=2)

        deleted = own_session.delete()
        assert (deleted.status_code, deleted.content) == (204, b"")
        error = own_session.ended()
        assert error["reason"] == "deleted"
        assert error["ended_at"] == pytest.approx(time.time(), abs=5)
        assert own_session.delete().status_code == 404
        assert own_session.id not in live_sessions(service.api)
        for name, call in EVERY_CALL.items():
            response = call(own_session)
            assert response.status_code == 410, (name, response.text)
            body = problem(response)
            assert (body["code"], body["reason"]) == ("session_ended", "deleted"), name
        assert [cell["code"] for cell in own_session.cells()] == ["1 + 1"]
        assert own_session.call("GET", "/notebook").status_code == 200


def test_session_is_ready_once_its_call_is_answered(service: Service) -> None:
    """The lists show `ready` even if the result is not in the registry yet."""
    with new_session(service) as own_session:
        for _ in range(10):
            own_session.run("1")
            listed = service.api.http.get("/v1/sessions").json()["sessions"]
            assert [one["state"] for one in listed if one["session_id"] == own_session.id] == ["ready"]
            own_session.run("2")
            kernels = service.api.http.get("/api/kernels").json()
            assert [one["execution_state"] for one in kernels if one["id"] == own_session.id] == ["idle"]


@pytest.mark.parametrize("session_id", [UNKNOWN_ID, "not-an-id", "x" * 300, "%00", "%F0%9F%8E%89"])
def test_unknown_session_is_404_on_every_call(service: Service, session_id: str) -> None:
    """The id was never given, or cannot be the id of a session."""
    unknown_session = Session(service, {"session_id": session_id})
    for name, call in {**EVERY_CALL, **HISTORY, "delete": Session.delete}.items():
        response = call(unknown_session)
        assert response.status_code == 404, (name, response.text[:500])
        assert problem(response)["code"] == "session_not_found", name


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        pytest.param({"ttl_seconds": 0}, 422, None, id="no time"),
        pytest.param({"ttl_seconds": -1}, 422, None, id="negative time"),
        pytest.param({"ttl_seconds": 86_401}, 422, None, id="over a day"),
        pytest.param({"ttl_seconds": "900"}, 422, None, id="text"),
        pytest.param({"ttl_seconds": 1.5}, 422, None, id="fraction"),
        pytest.param({"ttl_seconds": True}, 422, None, id="true"),
        pytest.param({"ttl_seconds": None}, 422, None, id="null"),
        pytest.param({"files": [{"path": "../up", "file_id": UNKNOWN_ID}]}, 422, "invalid_path", id="path"),
        pytest.param({"files": [{"path": "a", "file_id": UNKNOWN_ID}]}, 404, "file_not_found", id="file"),
        pytest.param({"files": "a"}, 422, None, id="files"),
    ],
)
def test_invalid_request_creates_no_session(
    service: Service, fields: Body, status: int, code: str | None
) -> None:
    """A bad request is refused with what is wrong, and no session comes of it."""
    before = live_sessions(service.api)
    response = service.api.http.post("/v1/sessions", json=fields)
    assert response.status_code == status, response.text
    assert code in (None, problem(response)["code"])
    assert live_sessions(service.api) == before


def test_invalid_request_does_not_change_the_session(session: Session) -> None:
    """Each call with a body answers 422 to an invalid one."""
    session.run("marker = 'here'")
    before = session.describe()
    wrong: list[tuple[str, str, Any]] = [
        ("PATCH", "", {"ttl_seconds": 0}),
        ("PATCH", "", {"ttl_seconds": 86_401}),
        ("PATCH", "", {}),
        ("POST", "/execute", {}),
        ("POST", "/execute", {"code": 1}),
        ("POST", "/execute", {"code": "1", "timeout_ms": 0}),
        ("POST", "/execute", {"code": "1", "timeout_ms": 30_001}),
        ("POST", "/execute", {"code": "1", "detach": "perhaps"}),
        ("POST", "/execute", {"code": "a\0b"}),
        ("POST", "/execute", {"code": "1", "files": [{"path": "/etc/x", "file_id": UNKNOWN_ID}]}),
        ("POST", "/execute/stream", {"code": "1", "timeout_ms": 30_001}),
        ("POST", "/input", {"value": 1}),
        ("POST", "/input", {}),
    ]
    for method, path, body in wrong:
        response = session.call(method, path, json=body)
        assert response.status_code == 422, (method, path, body, response.text[:500])
        problem(response)
    missing = session.execute("1", files=[{"path": "a", "file_id": UNKNOWN_ID}])
    assert (missing.status_code, problem(missing)["code"]) == (404, "file_not_found")
    after = session.describe()
    assert (after["expires_at"], after["execution_count"]) == (
        before["expires_at"],
        before["execution_count"],
    )
    assert session.printed("marker") == "'here'"


def test_number_of_open_sessions_is_limited(small: Service, small_session: Session) -> None:
    """One more than `MAX_SESSIONS` gives 429 with `Retry-After`, until another session ends."""
    for _ in range(2):
        with new_session(small):
            response = small.api.http.post("/v1/sessions", json={})
            assert response.status_code == 429
            assert problem(response)["code"] == "too_many_sessions"
            assert int(response.headers["retry-after"]) >= 1
            assert len(live_sessions(small.api)) == 2
    assert small.api.run("print('without a session')")["stdout"] == "without a session\n"


def test_session_expires(service: Service) -> None:
    """After `ttl_seconds` the session is 410 `expired`. Its container is removed, its stored files stay."""
    others = len(live_sessions(service.api))
    with new_session(service, ttl_seconds=30) as own_session:
        shortened = own_session.extend(3)
        (file,) = own_session.run("with open('kept.txt', 'w') as f: _ = f.write('kept')")["files"]
        error = own_session.wait_until_ended()
        assert error["reason"] == "expired"
        assert error["ended_at"] == pytest.approx(shortened["expires_at"], abs=3)
        assert problem(own_session.execute("1"))["reason"] == "expired"
        assert problem(own_session.delete())["reason"] == "expired"
        assert own_session.id not in live_sessions(service.api)
        assert service.api.download(file["file_id"]) == b"kept"
        deadline = time.monotonic() + 60
        while len(service.engine.kernels(service.instance_id)) > others + service.pool()["target"]:
            assert time.monotonic() < deadline, "the container is still there"
            time.sleep(0.2)


def test_idle_session_ends(unused: Future[None]) -> None:
    """With `SESSION_IDLE_SEC` a session ends so long after its last call. A running call counts as use."""
    unused.result(timeout=80)


# Kept state -------------------------------------------------------------------------------------


def test_state_of_the_program_is_kept_between_calls(session: Session) -> None:
    """Variables, imports, definitions, folder, environment, open files and threads are still there."""
    session.run(
        dedent("""
            import json, os, threading, time
            from dataclasses import dataclass
            numbers = [1, 2]
            def double(n): return n * factor
            factor = 2
            @dataclass
            class Point:
                x: int
            os.makedirs("below", exist_ok=True)
            os.chdir("below")
            os.environ["COLOUR"] = "blue"
            notes = open("notes.txt", "w+")
            count = notes.write("first line\\n")
            ticks = []
            def tick():
                while True:
                    ticks.append(time.time())
                    time.sleep(0.05)
            threading.Thread(target=tick, daemon=True).start()
        """)
    )
    session.run("numbers.append(double(21)); factor = 3; count = notes.write('second line\\n')")
    counted = int(session.printed("print(len(ticks))"))
    time.sleep(0.5)
    assert int(session.printed("print(len(ticks))")) >= counted + 5, "threads run between calls, too"
    result = session.run(
        dedent("""
            notes.seek(0)
            print(json.dumps([numbers, double(1), Point(5).x, os.getcwd(), os.environ["COLOUR"]]))
            print(repr(notes.read()))
            os.chdir("..")
        """)
    )
    assert result["stdout"].splitlines() == [
        '[[1, 2, 42], 3, 5, "/workspace/below", "blue"]',
        repr("first line\nsecond line\n"),
    ]
    session.run("%cd -q below\nfactor")
    assert session.printed("print(_, os.path.basename(os.getcwd()))\n%cd -q ..") == "3 below"


def test_executions_are_counted(session: Session) -> None:
    """`execution_count` grows by one with each call, failed calls included, and outputs have it."""
    first = session.run("'shown'")
    assert first["execution_count"] == session.describe()["execution_count"]
    assert first["outputs"][0]["execution_count"] == first["execution_count"]
    second = session.run("1/0")
    third = session.run("def broken(:")
    fourth = session.run("'again'", last_line_interactive=False)
    counts = [result["execution_count"] for result in (first, second, third, fourth)]
    assert counts == [counts[0] + i for i in range(4)]
    assert session.describe()["execution_count"] == counts[-1]
    assert len({result["cell_id"] for result in (first, second, third, fourth)}) == 4


@pytest.mark.parametrize(
    ("ending", "exit_code"), [("1/0", 1), ("sys.exit(3)", 3), ("exit()", 0), ("def broken(:", 1)]
)
def test_variables_are_kept_after_an_error_or_exit(session: Session, ending: str, exit_code: int) -> None:
    """An exception or an exit ends the call and nothing else."""
    session.run("import sys; marker = 'here'")
    result = session.run(f"print('said')\n{ending}" if ending != "def broken(:" else ending)
    assert (result["exit_code"], result["state"]) == (exit_code, "kept")
    assert session.printed("marker") == "'here'"


def test_execute_with_session_id_runs_in_the_session(service: Service, session: Session) -> None:
    """The field `session_id` works with and without streaming. Without it nothing is shared."""
    session.run("secret = 'shared by id'")
    result = service.api.run("print(secret)", session_id=session.id)
    check_session_result(result)
    assert (result["stdout"], result["state"]) == ("shared by id\n", "kept")
    events = service.api.stream("secret = 'changed'\nprint(secret)", session_id=session.id)
    assert text_of(events, "stdout") == "changed\n"
    assert (events[-1].type, events[-1].data["state"]) == ("result", "kept")
    assert session.printed("secret") == "'changed'"
    alone = service.api.run("secret")
    assert (alone["error"]["name"], alone["state"]) == ("NameError", "discarded")
    assert service.api.run("1", session_id=None)["state"] == "discarded"
    wrong = service.api.execute("1", session_id=7)
    assert wrong.status_code == 422


def test_sessions_are_independent(service: Service, session: Session) -> None:
    """Two sessions share neither variables nor files, and do not wait for each other."""
    session.run("mine = 1\nopen('mine.txt', 'w').close()")
    with new_session(service) as other:
        seen = other.run("import os\nprint(os.listdir())\nmine")
        assert (seen["stdout"], seen["error"]["name"]) == ("[]\n", "NameError")
        with ThreadPoolExecutor(1) as threads:
            waiting = "import os, time\nwhile not os.path.exists('go.txt'): time.sleep(0.02)"
            long = threads.submit(session.run, waiting, timeout_ms=30_000)
            assert soon(lambda: session.describe()["state"] == "busy")
            other.run("1")
            assert not long.done()
            session.put("go.txt", b"")
            assert long.result()["exit_code"] == 0


# One at a time -----------------------------------------------------------------------------------


def test_calls_run_in_order_of_arrival(session: Session) -> None:
    """Calls of all kinds wait while one runs."""
    session.run("import os, time\norder = []")
    wait = "while not os.path.exists('first.txt'): time.sleep(0.02)\n"
    calls: list[Callable[[], object]] = [
        lambda: session.run(f"{wait}order.append(0)", timeout_ms=30_000),
        lambda: session.run("time.sleep(0.2); order.append(1)"),
        lambda: session.stream("time.sleep(0.2); order.append(2)"),
        lambda: session.api.run("time.sleep(0.2); order.append(3)", session_id=session.id),
        lambda: session.detach("time.sleep(0.2); order.append(4)"),
        lambda: session.run("order.append(5)"),
    ]
    with ThreadPoolExecutor(len(calls)) as threads:
        waiting = []
        for call in calls:
            waiting.append(threads.submit(call))
            time.sleep(0.5)
        assert session.describe()["state"] == "busy"
        session.put("first.txt", b"")
        for one in waiting:
            one.result()
    assert session.printed("order") == "[0, 1, 2, 3, 4, 5]"
    assert session.describe()["state"] == "ready"


def test_busy_session_refuses_calls_that_wait_too_long(small_session: Session) -> None:
    """The answer is 409: at once over `SESSION_QUEUE_SIZE`, otherwise after `SESSION_QUEUE_TIMEOUT_SEC`."""
    small_session.run("import os, time\ncount = 0")
    wait = "while not os.path.exists('go.txt'): time.sleep(0.02)\n"
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(small_session.run, f"{wait}count += 1", timeout_ms=60_000)
        assert soon(lambda: small_session.describe()["state"] == "busy")
        patient = threads.submit(timed, lambda: small_session.execute("count += 100"))
        time.sleep(1)
        body = {"code": "count += 1000"}
        for path in ("/execute", "/execute/stream"):
            turned_away = small_session.call("POST", path, json=body)
            assert not patient.done(), "a call that may not wait has waited as long as one that may"
            assert turned_away.status_code == 409
            assert problem(turned_away)["code"] == "session_busy"
        refused, waited = patient.result()
        assert refused.status_code == 409
        assert problem(refused)["code"] == "session_busy"
        assert waited > 1.5
        assert not running.done()
        small_session.put("go.txt", b"")
        assert running.result()["exit_code"] == 0
    assert small_session.printed("count") == "1", "what was refused never ran"
