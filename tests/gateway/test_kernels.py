"""`/api/kernels` and `/api/kernelspecs`: a session and a kernel are the same thing."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from tests.gateway.channels import Channels, is_status, open_channels
from tests.support.api import problem
from tests.support.keys import KeyedService
from tests.support.process import Service
from tests.support.session import Session, live_sessions, new_session

UNKNOWN = "00000000-0000-4000-8000-000000000000"
USUAL_TTL_SEC = 900


def kernel(service: Service, kernel_id: str) -> dict[str, Any]:
    """`GET /api/kernels/{id}`, of one that there is."""
    response = service.api.http.get(f"/api/kernels/{kernel_id}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    assert set(found) == {"id", "name", "last_activity", "execution_state", "connections"}
    datetime.strptime(found["last_activity"], "%Y-%m-%dT%H:%M:%S.%fZ").astimezone()
    return found


def test_a_kernel_that_is_started_is_a_session(service: Service) -> None:
    """It is listed on both sides, and ended from either."""
    response = service.api.http.post("/api/kernels", json={"name": "python3", "env": {"KERNEL_X": "1"}})
    assert response.status_code == 201
    kernel_id = response.json()["id"]
    assert response.headers["Location"] == f"/api/kernels/{kernel_id}"
    assert kernel_id in live_sessions(service.api)
    assert kernel(service, kernel_id)["execution_state"] == "idle"
    assert service.api.http.delete(f"/api/kernels/{kernel_id}").status_code == 204
    assert service.api.http.get(f"/v1/sessions/{kernel_id}").status_code == 410
    for method in ("GET", "DELETE"):
        response = service.api.http.request(method, f"/api/kernels/{kernel_id}")
        assert (response.status_code, problem(response)["code"]) == (404, "session_not_found")


def test_a_kernel_is_started_without_a_body(service: Service) -> None:
    """The default is taken."""
    response = service.api.http.post("/api/kernels")
    assert (response.status_code, response.json()["name"]) == (201, "python3")
    assert service.api.http.delete(f"/api/kernels/{response.json()['id']}").status_code == 204


def test_sessions_are_listed_as_kernels(service: Service, fresh: Session) -> None:
    """With their state and the number of open sockets."""
    cell = fresh.detach("import time\ntime.sleep(1)")
    with open_channels(service, fresh.id):
        (listed,) = (item for item in service.api.http.get("/api/kernels").json() if item["id"] == fresh.id)
        assert (listed["execution_state"], listed["connections"]) == ("busy", 1)
    fresh.finished(cell)
    assert kernel(service, fresh.id)["execution_state"] == "idle"


def test_an_open_session_can_be_chosen_as_a_kernelspec(service: Service, fresh: Session) -> None:
    """That is how a notebook opens what an agent has made; one that is open already is not offered."""
    specs = service.api.http.get("/api/kernelspecs").json()
    assert specs["default"] == "python3"
    name = f"session-{fresh.id}"
    spec = specs["kernelspecs"][name]
    assert spec == service.api.http.get(f"/api/kernelspecs/{name}").json()
    assert fresh.id[:8] in spec["spec"]["display_name"]
    response = service.api.http.post("/api/kernels", json={"name": name})
    assert (response.status_code, response.json()["id"]) == (201, fresh.id)
    with open_channels(service, fresh.id):
        assert name not in service.api.http.get("/api/kernelspecs").json()["kernelspecs"]


def test_what_there_is_not_is_404(service: Service) -> None:
    """Kernels, kernelspecs, sessions under a kernelspec's name, and sockets."""
    http = service.api.http
    refused = {
        "session_not_found": [
            http.get(f"/api/kernels/{UNKNOWN}"),
            http.post(f"/api/kernels/{UNKNOWN}/interrupt"),
            http.post(f"/api/kernels/{UNKNOWN}/restart"),
            http.post("/api/kernels", json={"name": f"session-{UNKNOWN}"}),
        ],
        "kernelspec_not_found": [
            http.get("/api/kernelspecs/julia"),
            http.post("/api/kernels", json={"name": "julia"}),
        ],
    }
    for code, responses in refused.items():
        for response in responses:
            assert (response.status_code, problem(response)["code"]) == (404, code)


def test_a_restart_drops_variables_and_what_waits(service: Service, fresh: Session) -> None:
    """Files stay, clients are told, and the socket goes on."""
    with open_channels(service, fresh.id) as channels:
        channels.run("gone = 1\nopen('kept.txt', 'w').write('x')")
        running = channels.begin("print('go')\nwhile True: pass")
        waiting = channels.begin("gone", stop_on_error=False)
        channels.until_kind("stream")
        response = service.api.http.post(f"/api/kernels/{fresh.id}/restart")
        assert (response.status_code, response.json()["execution_state"]) == (200, "idle")
        replies: dict[str, str] = {}
        states: list[str] = []
        while len(replies) < 2 or "starting" not in states:
            message = channels.receive()
            if message["header"]["msg_type"] == "execute_reply":
                replies[message["parent_header"]["msg_id"]] = message["content"]["status"]
            elif is_status(message):
                states.append(message["content"]["execution_state"])
        assert replies == {running: "error", waiting: "aborted"}
        # By which JupyterLab would say that the kernel seems to have died.
        assert "restarting" not in states
        outcome = channels.run("import os\nos.listdir(), 'gone' in globals()")
        assert outcome.data() == {"text/plain": "(['kept.txt'], False)"}
        assert outcome.reply["content"]["execution_count"] == 1


def test_a_restart_replaces_the_kernel_once(fresh: Session) -> None:
    """Who waited for the cell that it ends keeps what came of theirs."""
    stuck = fresh.detach("import time\ntime.sleep(20)", timeout_ms=30_000)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(fresh.run, "later = 1")
        time.sleep(0.5)
        fresh.restart()
        assert waiting.result()["state"] == "kept"
    assert fresh.finished(stuck)["result"]["state"] == "restarted"
    assert fresh.printed("later") == "1"


def test_clients_are_told_of_a_restart_that_none_of_them_asked_for(service: Service, fresh: Session) -> None:
    """Such as an agent's: after the cell that it ends has its answer."""
    with open_channels(service, fresh.id) as channels:
        request = channels.begin("print('go')\nimport time\ntime.sleep(20)")
        channels.until_kind("stream")
        fresh.restart()
        assert channels.outcome(request).status == "error"
        channels.until(lambda message: is_status(message, "restarting"))


def test_a_restart_ends_a_widgets_handler(service: Service, fresh: Session) -> None:
    """As it does a cell, and clients are told of a restart that was asked for."""
    with open_channels(service, fresh.id) as channels:
        channels.run(
            "from comm import get_comm_manager\n"
            "def opened(comm, message):\n    print('handles')\n    while True: pass\n"
            "get_comm_manager().register_target('t', opened)"
        )
        channels.send("comm_open", {"comm_id": "c", "target_name": "t", "data": {}})
        channels.until_kind("stream")
        assert service.api.http.post(f"/api/kernels/{fresh.id}/restart").status_code == 200
        told = channels.until(lambda message: is_status(message) and not message["parent_header"])
        assert is_status(told, "starting")
        assert channels.run("'opened' in globals()").data() == {"text/plain": "False"}


def test_a_kernel_that_dies_is_replaced_and_clients_are_told(service: Service, fresh: Session) -> None:
    """The cell gets an error, which the notebook shows, and then the news; the next cell runs."""
    with open_channels(service, fresh.id) as channels:
        outcome = channels.run("import os\nprint('last words')\nos._exit(3)")
        assert (outcome.status, outcome.text) == ("error", "last words\n")
        assert outcome.of("error")[0]["content"]["ename"] == "KernelDied"
        channels.until(lambda message: is_status(message, "restarting"))
        assert channels.run("1 + 1").data() == {"text/plain": "2"}


def test_a_kernel_that_dies_between_cells_is_replaced(service: Service, fresh: Session) -> None:
    """Nobody has to run anything for that."""
    with open_channels(service, fresh.id) as channels:
        code = "import threading, os\nthreading.Timer(0.3, os._exit, (9,)).start()"
        assert channels.run(code).status == "ok"
        channels.until(lambda message: is_status(message, "restarting"))
        assert channels.ask("complete", code="impor", cursor_pos=5)["matches"]
        assert channels.run("'os' in globals()").data() == {"text/plain": "False"}


def test_who_has_a_socket_is_told_of_the_end(service: Service, fresh: Session) -> None:
    """A session that is deleted is a dead kernel, and its sockets are closed."""
    with open_channels(service, fresh.id) as channels:
        channels.run("1")
        assert fresh.delete().status_code == 204
        channels.until(lambda message: is_status(message, "dead"))
        assert closed_with(channels) == 1001


def closed_with(channels: Channels) -> int | None:
    """The code that the service closes a socket with, whatever else it sends before."""
    for _ in channels.socket:
        pass
    return channels.socket.close_code


def test_a_session_lives_while_a_socket_is_open(service: Service) -> None:
    """And for its usual time after that; one that lives longer anyway is not cut short."""
    with new_session(service, ttl_seconds=20) as short, new_session(service, ttl_seconds=5000) as long:
        with open_channels(service, short.id), open_channels(service, long.id):
            deadline = time.time() + 10
            while short.describe()["expires_at"] < time.time() + 0.9 * USUAL_TTL_SEC:
                assert time.time() < deadline
                time.sleep(0.05)
        assert long.describe()["expires_at"] > time.time() + 4000


def test_sessions_of_others_are_not_there(guarded: KeyedService) -> None:
    """For another key a kernel is as unknown as one that never was; each lists its own."""
    ada, ben = guarded.api("ada"), guarded.api("ben")
    with new_session(guarded.service, ada) as session:
        url = f"/api/kernels/{session.id}"
        unknown = ben.http.get(f"/api/kernels/{UNKNOWN}")
        for response in (
            ben.http.get(url),
            ben.http.delete(url),
            ben.http.post(f"{url}/interrupt"),
            ben.http.post(f"{url}/restart"),
            ben.http.post("/api/kernels", json={"name": f"session-{session.id}"}),
        ):
            assert response.status_code == 404
            assert response.text == unknown.text.replace(UNKNOWN, session.id)
        assert ben.http.get("/api/kernels").json() == []
        assert list(ben.http.get("/api/kernelspecs").json()["kernelspecs"]) == ["python3"]
        assert [item["id"] for item in ada.http.get("/api/kernels").json()] == [session.id]
