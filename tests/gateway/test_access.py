"""Access to a kernel's WebSocket: keys, origins, limits, and the log."""

import json
import socket
import time
import uuid
from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.conftest import StartService
from tests.gateway.channels import Channels, address, open_channels
from tests.gateway.conftest import CELL_SEC
from tests.support.keys import KeyedService
from tests.support.process import Service
from tests.support.session import Session, new_session
from tests.support.waiting import soon


@pytest.fixture(scope="module")
def owned(guarded: KeyedService) -> Iterator[Session]:
    """Ada's session."""
    with new_session(guarded.service, guarded.api("ada")) as session:
        yield session


def refusal(url: str, **headers: str) -> tuple[int, str]:
    """Return status and code of the answer to a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers=headers, proxy=None):
        pass
    response = refused.value.response
    assert response.headers["content-type"] == "application/json"
    return response.status_code, str(json.loads(response.body)["code"])


@pytest.mark.parametrize("scheme", ["token", "Token", "Bearer", "x-api-key", "query"])
def test_key_opens_its_own_kernels(guarded: KeyedService, owned: Session, scheme: str) -> None:
    """The key may be in Jupyter's header, in `X-API-Key`, or in the address, as pages cannot set headers."""
    key = guarded.key("ada")
    headers = {} if scheme == "query" else {"Authorization": f"{scheme} {key}"}
    if scheme == "x-api-key":
        headers = {"X-API-Key": key}
    query = f"?token={key}" if scheme == "query" else ""
    with connect(address(guarded.service, owned.id, query), additional_headers=headers, proxy=None) as socket:
        assert Channels(socket, uuid.uuid4().hex).run("1").status == "ok"
    assert guarded.service.api.http.get("/api/kernels", headers=headers).status_code == (
        401 if scheme == "query" else 200
    )


def test_websocket_without_the_owners_key_is_refused(guarded: KeyedService, owned: Session) -> None:
    """Wrong keys and two different keys are refused. For another key the kernel is unknown."""
    url = address(guarded.service, owned.id)
    ada, ben = guarded.key("ada"), guarded.key("ben")
    assert refusal(url) == (401, "key_missing")
    assert refusal(url, Authorization="token wrong") == (401, "key_invalid")
    assert refusal(f"{url}?token=wrong") == (401, "key_invalid")
    assert refusal(f"{url}?token={ben}", Authorization=f"token {ada}") == (401, "key_invalid")
    unknown = address(guarded.service, "00000000-0000-4000-8000-000000000000")
    for foreign in (url, unknown):
        assert refusal(foreign, Authorization=f"token {ben}") == (404, "session_not_found")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"])
def test_pages_of_other_servers_are_refused(service: Service, session: Session, origin: str) -> None:
    """This also holds without keys: no web page of another server may reach a kernel."""
    assert refusal(address(service, session.id), Origin=origin) == (403, "foreign_origin")
    for method, path in (("POST", "/api/kernels"), ("GET", "/api/kernels"), ("GET", "/api/kernelspecs")):
        response = service.api.http.request(method, path, headers={"Origin": origin})
        assert (response.status_code, response.json()["code"]) == (403, "foreign_origin")


def test_page_of_the_service_itself_may_connect(service: Service, session: Session) -> None:
    """Its Origin names the same host as the request."""
    with open_channels(service, session.id, headers={"Origin": service.base_url}) as channels:
        assert channels.run("1").status == "ok"


def test_log_has_a_line_for_each_handshake_and_no_keys(guarded: KeyedService, owned: Session) -> None:
    """Refused handshakes are logged, too. The query is left out."""
    key = guarded.key("ada")
    path = f"/api/kernels/{owned.id}/channels"
    with connect(address(guarded.service, owned.id, f"?token={key}&session_id=s1"), proxy=None):
        pass
    refusal(address(guarded.service, owned.id, "?token=not-a-key"))
    log = guarded.service.log_path.read_text()
    assert f'ada "WEBSOCKET {path}" 101' in log
    assert f'- "WEBSOCKET {path}" 401' in log
    assert key not in log
    assert "not-a-key" not in log
    assert "session_id" not in log


def test_invalid_handshake_is_refused_with_a_code_and_a_log_line(service: Service, session: Session) -> None:
    """This also holds for handshakes that the WebSocket library refuses."""
    host, port = service.base_url.removeprefix("http://").split(":")
    upgrade = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Request-ID: no-handshake"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"GET /api/kernels/{session.id}/channels HTTP/1.1\r\n{upgrade}\r\n\r\n".encode())
        head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
    assert head.split()[1] == b"400"
    assert b"X-Request-ID: no-handshake" in head
    assert json.loads(body)["code"] == "invalid_handshake"
    assert "request_id=no-handshake" in service.log_path.read_text()


def test_cell_has_the_time_limit_of_notebooks(guarded: KeyedService, owned: Session) -> None:
    """The limit is longer than that of the REST API. Variables are kept after a timeout."""
    headers = {"Authorization": f"token {guarded.key('ada')}"}
    with open_channels(guarded.service, owned.id, headers=headers) as channels:
        assert channels.run("import time\nkept = 7\ntime.sleep(1.2)").status == "ok"
        began = time.monotonic()
        outcome = channels.run("while True: time.sleep(0.05)")
        assert time.monotonic() - began >= CELL_SEC
        assert outcome.reply["content"]["ename"] == "TimeoutExceeded"
        assert [error["content"]["ename"] for error in outcome.of("error")][-1] == "TimeoutExceeded"
        assert channels.run("kept").data() == {"text/plain": "7"}


def test_handler_of_a_widget_has_the_time_limit_of_notebooks(guarded: KeyedService) -> None:
    """A handler runs code as a cell does, and is interrupted at the limit."""
    headers = {"Authorization": f"token {guarded.key('ada')}"}
    with (
        new_session(guarded.service, guarded.api("ada")) as session,
        open_channels(guarded.service, session.id, headers=headers) as channels,
    ):
        channels.run(
            "import time\ndef target(comm, message):\n    print('in')\n    time.sleep(600)\n"
            "get_ipython().kernel.comm_manager.register_target('mine', target)"
        )
        began = time.monotonic()
        request = channels.send("comm_open", {"comm_id": "c", "target_name": "mine", "data": {}})
        assert channels.outcome(request, replies=False).text == "in\n"
        assert time.monotonic() - began >= CELL_SEC
        assert channels.run("1").status == "ok"


def test_displays_of_a_cell_are_limited(guarded: KeyedService, owned: Session) -> None:
    """A notebook gets five times the size of displays that is kept, and then a note about the rest."""
    headers = {"Authorization": f"token {guarded.key('ada')}"}
    with open_channels(guarded.service, owned.id, headers=headers) as channels:
        outcome = channels.run("for i in range(30): display({'text/plain': 'x' * 100_000}, raw=True)")
    shown = outcome.of("display_data")
    assert 8 <= len(shown) <= 11
    assert "left out" in shown[-1]["content"]["data"]["text/plain"]


def test_cells_have_the_limits_of_their_key_and_their_own_cpu_limit(start_service: StartService) -> None:
    """A cell over a limit gets an error that names the limit, and the WebSocket stays open.

    The limits are requests a minute, executions at once, and CPU seconds.
    """
    key = "a" * 32
    service = start_service(
        API_KEYS=f"ada:{key}",
        KEY_REQUESTS_PER_MINUTE=12,
        KEY_MAX_EXECUTIONS=1,
        JUPYTER_CPU_TIME_LIMIT_SEC=1,
        POOL_SIZE=1,
    )
    headers = {"Authorization": f"token {key}"}
    kernel_id = service.api.http.post("/api/kernels", headers=headers).json()["id"]
    with (
        open_channels(service, kernel_id, headers=headers) as channels,
        open_channels(service, kernel_id, headers=headers) as other,
    ):
        request = channels.begin("input()")
        channels.until_kind("input_request")
        assert other.run("1").reply["content"]["ename"] == "TooManyExecutions"
        channels.send("input_reply", {"value": ""}, "stdin")
        assert channels.outcome(request).status == "ok"
        content = channels.run("while True: pass").reply["content"]
        assert content["ename"] == "CpuTimeLimitExceeded"
        assert "JUPYTER_CPU_TIME_LIMIT_SEC=1" in content["evalue"]
        while (outcome := channels.run("1")).status == "ok":
            pass
        assert outcome.reply["content"]["ename"] == "TooManyRequests"
    url = f"/api/kernels/{kernel_id}"
    assert soon(lambda: service.api.http.delete(url, headers=headers).status_code == 204)
