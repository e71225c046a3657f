"""`/api/kernels` and `/api/kernelspecs`: each session is a kernel."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from tests.gateway.channels import Channels, is_status, open_channels
from tests.support.api import problem
from tests.support.keys import KeyedService
from tests.support.process import Service
from tests.support.session import WAIT_FOR_FILE, Session, live_sessions, new_session

UNKNOWN = "00000000-0000-4000-8000-000000000000"
USUAL_TTL_SEC = 900


def kernel(service: Service, kernel_id: str) -> dict[str, Any]:
    """Return the answer of `GET /api/kernels/{id}`, for a kernel that exists."""
    response = service.api.http.get(f"/api/kernels/{kernel_id}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    assert set(found) == {"id", "name", "last_activity", "execution_state", "connections"}
    datetime.strptime(found["last_activity"], "%Y-%m-%dT%H:%M:%S.%fZ").astimezone()
    return found


def test_started_kernel_is_a_session(service: Service) -> None:
    """It is listed as a session, and deleting the kernel ends the session."""
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


def test_kernel_starts_without_a_body(service: Service) -> None:
    """The default kernelspec is used."""
    response = service.api.http.post("/api/kernels")
    assert (response.status_code, response.json()["name"]) == (201, "python3")
    assert service.api.http.delete(f"/api/kernels/{response.json()['id']}").status_code == 204


def test_sessions_are_listed_as_kernels(service: Service, fresh: Session) -> None:
    """Each has its state and the number of open WebSockets."""
    cell = fresh.detach(WAIT_FOR_FILE)
    with open_channels(service, fresh.id):
        (listed,) = (item for item in service.api.http.get("/api/kernels").json() if item["id"] == fresh.id)
        assert (listed["execution_state"], listed["connections"]) == ("busy", 1)
    fresh.put("go", b"")
    fresh.finished(cell)
    assert kernel(service, fresh.id)["execution_state"] == "idle"


def test_open_session_can_be_chosen_as_a_kernelspec(service: Service, fresh: Session) -> None:
    """A notebook opens an agent's session this way. A session with a connection is not offered."""
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


def test_unknown_kernels_and_kernelspecs_are_404(service: Service) -> None:
    """So is an unknown session in the name of a kernelspec."""
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


def test_restart_drops_variables_and_aborts_waiting_cells(service: Service, fresh: Session) -> None:
    """Files and the WebSocket are kept, and clients get the status `starting`."""
    with open_channels(service, fresh.id) as channels:
        channels.run("gone = 1\nopen('kept.txt', 'w').write('x')")
        running = channels.begin("print('go')\nwhile True: pass")
        waiting = channels.begin("gone", stop_on_error=False)
        channels.until_kind("stream")
        channels.sync()
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
        # On `restarting` JupyterLab reports that the kernel has died.
        assert "restarting" not in states
        outcome = channels.run("import os\nos.listdir(), 'gone' in globals()")
        assert outcome.data() == {"text/plain": "(['kept.txt'], False)"}
        assert outcome.reply["content"]["execution_count"] == 1


def test_restart_replaces_the_kernel_once(fresh: Session) -> None:
    """A call that waited for the ended cell runs in the new kernel, which is not replaced again."""
    stuck = fresh.detach("import time\ntime.sleep(20)", timeout_ms=30_000)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(fresh.run, "later = 1")
        time.sleep(0.5)
        fresh.restart()
        assert waiting.result()["state"] == "kept"
    assert fresh.finished(stuck)["result"]["state"] == "restarted"
    assert fresh.printed("later") == "1"


def test_clients_get_the_status_restarting_after_a_restart_over_the_rest_api(
    service: Service, fresh: Session
) -> None:
    """The status comes after the reply to the cell that the restart ended."""
    with open_channels(service, fresh.id) as channels:
        request = channels.begin("print('go')\nimport time\ntime.sleep(20)")
        channels.until_kind("stream")
        fresh.restart()
        assert channels.outcome(request).status == "error"
        channels.until(lambda message: is_status(message, "restarting"))


def test_restart_ends_the_handler_of_a_widget(service: Service, fresh: Session) -> None:
    """Clients get the status `starting`, as after any restart by a client."""
    with open_channels(service, fresh.id) as channels:
        channels.run(
            "from comm import get_comm_manager\n"
            "def opened(comm, message):\n    print('handles')\n    while True: pass\n"
            "get_comm_manager().register_target('t', opened)"
        )
        channels.send("comm_open", {"comm_id": "c", "target_name": "t", "data": {}})
        channels.until_kind("stream")
        assert service.api.http.post(f"/api/kernels/{fresh.id}/restart").status_code == 200
        status = channels.until(lambda message: is_status(message) and not message["parent_header"])
        assert is_status(status, "starting")
        assert channels.run("'opened' in globals()").data() == {"text/plain": "False"}


def test_dead_kernel_is_replaced_and_clients_get_the_status_restarting(
    service: Service, fresh: Session
) -> None:
    """The cell gets an error, which the notebook shows. The next cell runs."""
    with open_channels(service, fresh.id) as channels:
        outcome = channels.run("import os\nprint('last words')\nos._exit(3)")
        assert (outcome.status, outcome.text) == ("error", "last words\n")
        assert outcome.of("error")[0]["content"]["ename"] == "KernelDied"
        channels.until(lambda message: is_status(message, "restarting"))
        assert channels.run("1 + 1").data() == {"text/plain": "2"}


def test_kernel_that_dies_between_cells_is_replaced(service: Service, fresh: Session) -> None:
    """The gateway replaces it without a request of a client."""
    with open_channels(service, fresh.id) as channels:
        code = "import threading, os\nthreading.Timer(0.3, os._exit, (9,)).start()"
        assert channels.run(code).status == "ok"
        channels.until(lambda message: is_status(message, "restarting"))
        assert channels.ask("complete", code="impor", cursor_pos=5)["matches"]
        assert channels.run("'os' in globals()").data() == {"text/plain": "False"}


def test_clients_get_the_status_dead_when_the_session_is_deleted(service: Service, fresh: Session) -> None:
    """Then their WebSockets are closed."""
    with open_channels(service, fresh.id) as channels:
        channels.run("1")
        assert fresh.delete().status_code == 204
        channels.until(lambda message: is_status(message, "dead"))
        assert closed_with(channels) == 1001


def closed_with(channels: Channels) -> int | None:
    """Receive all remaining messages and return the close code."""
    for _ in channels.socket:
        pass
    return channels.socket.close_code


def test_session_lives_while_a_websocket_is_open(service: Service) -> None:
    """Its life is extended to the default. A session with a longer life keeps that."""
    with new_session(service, ttl_seconds=20) as short, new_session(service, ttl_seconds=5000) as long:
        with open_channels(service, short.id), open_channels(service, long.id):
            deadline = time.time() + 60
            while short.describe()["expires_at"] < time.time() + 0.9 * USUAL_TTL_SEC:
                assert time.time() < deadline
                time.sleep(0.05)
        assert long.describe()["expires_at"] > time.time() + 4000


def test_sessions_of_other_keys_are_unknown(guarded: KeyedService) -> None:
    """The answers are those for a kernel that never existed. Each key lists its own kernels."""
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
