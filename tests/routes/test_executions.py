"""Tests of ``/v1/executions``: every execution can be looked up by its id, however it ended."""

import sqlite3
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conftest import StartService
from tests.support.api import Api, Body, problem
from tests.support.keys import KeyedService
from tests.support.process import Service
from tests.support.session import Session, new_session
from tests.support.sse import events
from tests.support.waiting import soon

STAGES = ("queue_ms", "start_ms", "stage_ms", "run_ms", "gather_ms", "store_ms")
SIZES = {"code_bytes", "stdout_bytes", "stderr_bytes", "display_bytes"} | {
    f"files_{direction}{unit}" for direction in ("in", "out") for unit in ("", "_bytes")
}
WAIT_FOR_GO = "import os, time\nwhile not os.path.exists('go.txt'): time.sleep(0.02)"
PRINT_ADDRESS = "import socket\nprint(socket.gethostbyname(socket.gethostname()), flush=True)\n"


@pytest.fixture
def api(watched: KeyedService) -> Api:
    """Return the API with the key of alice."""
    return watched.api("alice")


@pytest.fixture(scope="module")
def session(watched: KeyedService) -> Iterator[Session]:
    """Return a session of alice."""
    with new_session(watched.service, watched.api("alice")) as session:
        yield session


def looked_up(api: Api, execution_id: str) -> Body:
    """Return `GET /v1/executions/{id}` of an existing execution, after a check of its fields."""
    response = api.http.get(f"/v1/executions/{execution_id}")
    assert response.status_code == 200, response.text
    body: Body = response.json()
    assert body["execution_id"] == execution_id
    assert set(body["stages"]) == set(STAGES)
    assert set(body["sizes"]) == SIZES
    running = body["state"] == "running"
    assert (body["outcome"] is None) is (body["finished_at"] is None) is running
    assert running or body["finished_at"] >= body["created_at"]
    assert all(body["stages"][name] is None or body["stages"][name] >= 0 for name in STAGES)
    return body


def finished(api: Api, execution_id: str, seconds: float = 60) -> Body:
    """Return the execution as `looked_up` does, once it has ended."""
    deadline = time.monotonic() + seconds
    while (body := looked_up(api, execution_id))["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return body


def remove_container(service: Service, address: str) -> None:
    """Remove the container that has the address, as `docker rm -f` does."""
    for container in service.engine.inspected(service.instance_id):
        if service.engine.network(container["Id"])[2] == address:
            return service.engine.remove(container["Id"])
    raise AssertionError(f"no kernel at {address}")


def test_an_execution_has_its_durations_and_sizes(api: Api) -> None:
    """The stages take no longer than the whole. Sizes are of the code, inputs and outputs."""
    code = "data = open('in.txt').read()\nopen('out.txt', 'w').write(data * 2)\nprint('é')\ndata"
    result = api.run(code, files=api.stage_at({"in.txt": b"12345"}))
    body = looked_up(api, result["execution_id"])
    assert (body["kind"], body["session_id"], body["outcome"]) == ("execute", None, "ok")
    assert (body["exit_code"], body["timed_out"]) == (0, False)
    assert body["duration_ms"] == result["duration_ms"]
    assert body["code"] is None
    stages, sizes = body["stages"], body["sizes"]
    total_ms = 1000 * (body["finished_at"] - body["created_at"])
    assert sum(stages.values()) <= total_ms + 1
    assert min(stages[name] for name in ("stage_ms", "run_ms", "store_ms")) > 0
    assert stages["run_ms"] >= result["duration_ms"] - 1
    assert (sizes["code_bytes"], sizes["stdout_bytes"], sizes["stderr_bytes"]) == (len(code) + 1, 3 + 8, 0)
    assert (sizes["files_in"], sizes["files_in_bytes"]) == (1, 5)
    assert (sizes["files_out"], sizes["files_out_bytes"]) == (1, 10)
    assert sizes["display_bytes"] > 0
    assert abs(body["created_at"] - time.time()) < 60


OUTCOMES: dict[str, tuple[str, dict[str, Any]]] = {
    "ok": ("1 + 1", {}),
    "error": ("1 / 0", {}),
    "timeout": ("import time\ntime.sleep(9)", {"timeout_ms": 100}),
    "memory": ("hoard = []\nwhile True: hoard.append(bytearray(b'x') * 10_000_000)", {}),
    "cpu": ("while True: pass", {"timeout_ms": 60_000}),
    "died": ("import os\nos.kill(os.getpid(), 9)", {}),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_outcome_of_an_execution_can_be_looked_up(api: Api, session: Session, outcome: str) -> None:
    """One-shot, streamed and session executions have the same outcome, by the id in the response."""
    code, fields = OUTCOMES[outcome]
    answers = [(api.run(code, **fields), "execute")]
    if outcome != "cpu":  # reaching the CPU limit takes long
        answers += [
            (api.stream(code, **fields)[-1].data, "execute"),
            (session.run(code, **fields), "session"),
        ]
    for answer, kind in answers:
        body = finished(api, answer["execution_id"])
        assert (body["outcome"], body["kind"]) == (outcome, kind)
        assert (body["exit_code"], body["timed_out"]) == (answer["exit_code"], answer["timed_out"])
        assert body["session_id"] == (session.id if kind == "session" else None)


def test_a_shell_command_is_an_execution(api: Api, session: Session) -> None:
    """The response to a shell command has an execution id too."""
    for cmd, outcome in (("printf abc", "ok"), ("exit 3", "error")):
        answer = session.bash(cmd)
        body = looked_up(api, answer["execution_id"])
        assert (body["kind"], body["outcome"], body["session_id"]) == ("bash", outcome, session.id)
        assert body["exit_code"] == answer["exit_code"]
        assert body["sizes"]["code_bytes"] == len(cmd)
        assert body["sizes"]["stdout_bytes"] == len(answer["stdout"])


def test_a_running_execution_can_be_looked_up(api: Api, session: Session) -> None:
    """A stream has its id before its first event. A detached cell has it in its response."""
    body = {"code": "print('begun', flush=True)\ninput()", "timeout_ms": 60_000, "allow_stdin": True}
    with api.http.stream("POST", f"{session.url}/execute/stream", json=body) as response:
        execution_id = response.headers["x-execution-id"]
        next(response.iter_raw())
        assert looked_up(api, execution_id)["state"] == "running"
        assert execution_id in [item["execution_id"] for item in listed(api, limit=1)[0]]
    assert finished(api, execution_id)["kind"] == "session"

    detached = session.execute(WAIT_FOR_GO, detach=True, timeout_ms=60_000).json()
    assert looked_up(api, detached["execution_id"])["state"] == "running"
    session.put("go.txt", b"")
    assert finished(api, detached["execution_id"])["outcome"] == "ok"


def test_an_input_below_a_file_is_refused(api: Api, session: Session) -> None:
    """The input's path leads through a file of the session. No code runs, and the kernel is the same."""
    session.run("kept = 1")
    session.put("taken", b"")
    response = session.execute("1", files=api.stage_at({"taken/in.txt": b"x"}))
    assert (response.status_code, problem(response)["code"]) == (422, "invalid_path")
    assert "x-execution-id" not in response.headers
    assert session.printed("kept") == "1"


@pytest.mark.parametrize("in_session", [False, True])
def test_disconnecting_cancels_the_execution(api: Api, session: Session, in_session: bool) -> None:
    """The id is in the headers of the stream."""
    body = {"code": "print(1, flush=True)\nimport time\ntime.sleep(600)", "timeout_ms": 60_000}
    url = session.url if in_session else "/v1"
    with api.http.stream("POST", f"{url}/execute/stream", json=body) as response:
        execution_id = response.headers["x-execution-id"]
        next(response.iter_raw())
    assert finished(api, execution_id)["outcome"] == "cancelled"


def test_deleting_a_session_cancels_its_running_execution(watched: KeyedService) -> None:
    """The running command is cancelled. A waiting call never runs. Both callers get `session_ended`."""
    api = watched.api("ender")
    with new_session(watched.service, api) as session, ThreadPoolExecutor() as threads:
        running = threads.submit(session.call, "POST", "/bash", json={"cmd": "sleep 30"})
        assert soon(lambda: any(item["state"] == "running" for item in listed(api)[0]))
        waiting = threads.submit(session.execute, "1")
        assert soon(lambda: len(listed(api)[0]) == 2)
        assert session.delete().status_code == 204
        for answer in (running.result(), waiting.result()):
            assert (answer.status_code, problem(answer)["code"]) == (410, "session_ended")
        assert soon(lambda: len(listed(api)[0]) == 1)
        (cancelled,) = listed(api)[0]
        assert (cancelled["kind"], cancelled["outcome"]) == ("bash", "cancelled")
        assert running.result().headers["x-execution-id"] == cancelled["execution_id"]
        assert "x-execution-id" not in waiting.result().headers


def test_an_execution_keeps_its_outcome_when_its_session_ends(watched: KeyedService) -> None:
    """The session is deleted while a new kernel is being started after the death of the old one."""
    api = watched.api("ender")
    with new_session(watched.service, api) as session:
        body = session.execute("import os; os._exit(3)", detach=True).json()
        while looked_up(api, body["execution_id"])["state"] == "running":
            time.sleep(0.005)
        session.delete()
        for _ in range(2):  # the second from the registry
            assert looked_up(api, body["execution_id"])["outcome"] == "died"
            time.sleep(0.3)


def test_a_lost_container_gives_a_lost_execution(watched: KeyedService, api: Api, session: Session) -> None:
    """The headers of the error, and of a broken stream, have the execution id."""
    service = watched.service
    with new_session(service, api) as other:
        for url in ("/v1/execute/stream", f"{other.url}/execute/stream"):
            body = {"code": PRINT_ADDRESS + "import time\ntime.sleep(600)", "timeout_ms": 60_000}
            with api.http.stream("POST", url, json=body) as response:
                execution_id = response.headers["x-execution-id"]
                received = events(response.iter_raw())
                remove_container(service, next(received).data["data"].strip())
                assert [event.type for event in received if event.type != ":"] == ["error"]
            assert finished(api, execution_id)["outcome"] == "lost"
    with new_session(service, api) as third, ThreadPoolExecutor() as threads:
        address = third.printed(PRINT_ADDRESS)
        answer = threads.submit(third.execute, "import time\ntime.sleep(600)", timeout_ms=60_000)
        assert soon(lambda: any(item["state"] == "running" for item in listed(api)[0]))
        remove_container(service, address)
        refused = answer.result()
        assert refused.status_code == 503, refused.text
        body = looked_up(api, refused.headers["x-execution-id"])
        assert (body["outcome"], body["state"], body["exit_code"]) == ("lost", "done", None)


def listed(api: Api, **params: Any) -> tuple[list[Body], str | None]:
    """Return a page of `GET /v1/executions`, and the cursor of the next one."""
    response = api.http.get("/v1/executions", params=params)
    assert response.status_code == 200, response.text
    return response.json()["executions"], response.json()["next"]


def test_the_list_is_newest_first_in_pages(watched: KeyedService) -> None:
    """The pages have each execution once, for every page size."""
    api = watched.api("lister")
    ids = [api.run(str(number))["execution_id"] for number in range(5)]
    assert [item["execution_id"] for item in listed(api)[0]] == ids[::-1]
    for limit in (1, 2, 5):
        listed_ids: list[str] = []
        after: str | None = None
        while True:
            page, after = listed(api, limit=limit, **({"after": after} if after else {}))
            listed_ids += [item["execution_id"] for item in page]
            if after is None:
                break
            assert len(page) == limit
        assert listed_ids == ids[::-1]
    assert problem(api.http.get("/v1/executions", params={"after": "x"}))["code"] == "invalid_cursor"
    assert problem(api.http.get("/v1/executions", params={"limit": 0}))["code"] == "invalid_request"


def test_an_execution_of_another_owner_is_not_found(
    watched: KeyedService, api: Api, session: Session
) -> None:
    """A running one is not found either, and only its owner's list has it."""
    done = api.run("1")["execution_id"]
    running = session.execute("import time\ntime.sleep(1)", detach=True).json()["execution_id"]
    bob = watched.api("bob")
    answers = {}
    for execution_id in (done, running, uuid.uuid4().hex, "no-id"):
        response = bob.http.get(f"/v1/executions/{execution_id}")
        assert (response.status_code, problem(response)["code"]) == (404, "execution_not_found")
        assert "x-execution-id" not in response.headers
        answers[response.text.replace(execution_id, "ID")] = True
    assert len(answers) == 1
    assert listed(bob) == ([], None)
    finished(api, running)


def test_a_refused_execution_is_not_kept(watched: KeyedService) -> None:
    """A refused execution has no id and is in no list."""
    api = watched.api("refused")
    for fields in ({"timeout_ms": 10**6}, {"files": [{"path": "../x", "file_id": "x"}]}):
        response = api.execute("1", **fields)
        assert response.status_code == 422
        assert "x-execution-id" not in response.headers
    assert listed(api) == ([], None)


def test_code_is_stored_if_set_and_cells_survive_a_restart(start_service: StartService) -> None:
    """A cell that runs while the service is killed is found by its id, while it runs and when done."""
    service = start_service(KEEP_CODE="1", POOL_SIZE=1, MAX_EXEC_TIMEOUT_MS=60_000)
    kept = service.api.run("1 + 1")["execution_id"]
    assert looked_up(service.api, kept)["code"] == "1 + 1"
    with new_session(service) as session:
        command = session.bash("echo kept")["execution_id"]
        assert looked_up(service.api, command)["code"] == "echo kept"
        cell = session.execute(WAIT_FOR_GO, detach=True, timeout_ms=60_000).json()
        execution_id = cell["execution_id"]
        service.crash()
        service.restart(KEEP_CODE="0")
        assert looked_up(service.api, execution_id)["state"] == "running"
        session.put("go.txt", b"")
        body = finished(service.api, execution_id)
        assert (body["outcome"], body["kind"], body["session_id"]) == ("ok", "session", session.id)
        assert body["code"] is None
        assert looked_up(service.api, kept)["code"] == "1 + 1", "what was kept stays"

        lost = session.execute("while True: time.sleep(1)", detach=True, timeout_ms=60_000).json()
        service.crash()
        for container in service.engine.kernels(service.instance_id):
            service.engine.remove(container)
        service.restart()
        assert looked_up(service.api, lost["execution_id"])["outcome"] == "lost"
        assert lost["execution_id"] in [item["execution_id"] for item in listed(service.api)[0]]
    with sqlite3.connect(service.storage / "registry.sqlite3") as database:
        ids = [row[0] for row in database.execute("SELECT execution_id FROM executions")]
    assert len(ids) == len(set(ids)) == 4


def test_every_response_to_an_execution_has_its_id(api: Api, session: Session) -> None:
    """The id is in the headers and in the body."""
    answers: list[httpx.Response] = [
        api.execute("1"),
        session.execute("1"),
        session.call("POST", "/bash", json={"cmd": "true"}),
    ]
    for answer in answers:
        assert answer.headers["x-execution-id"] == answer.json()["execution_id"]
