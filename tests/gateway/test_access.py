"""Who may open a kernel's socket, how long a cell may run there, and what the log says of it."""

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


@pytest.fixture(scope="module")
def owned(guarded: KeyedService) -> Iterator[Session]:
    """Ada's session."""
    with new_session(guarded.service, guarded.api("ada")) as session:
        yield session


def refusal(url: str, **headers: str) -> tuple[int, str]:
    """Status and code of the answer to a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers=headers, proxy=None):
        pass
    response = refused.value.response
    assert response.headers["content-type"] == "application/json"
    return response.status_code, str(json.loads(response.body)["code"])


@pytest.mark.parametrize("scheme", ["token", "Token", "Bearer", "x-api-key", "query"])
def test_a_key_opens_its_own_kernels(guarded: KeyedService, owned: Session, scheme: str) -> None:
    """In the header that Jupyter sends, in ours, or in the address, where a page can't send headers."""
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


def test_without_a_key_nothing_is_opened(guarded: KeyedService, owned: Session) -> None:
    """Nor with a wrong one, two different ones, or somebody else's, for whom there is no such kernel."""
    url = address(guarded.service, owned.id)
    ada, ben = guarded.key("ada"), guarded.key("ben")
    assert refusal(url) == (401, "key_missing")
    assert refusal(url, Authorization="token wrong") == (401, "key_invalid")
    assert refusal(f"{url}?token=wrong") == (401, "key_invalid")
    assert refusal(f"{url}?token={ben}", Authorization=f"token {ada}") == (401, "key_invalid")
    unknown = address(guarded.service, "00000000-0000-4000-8000-000000000000")
    for of_another in (url, unknown):
        assert refusal(of_another, Authorization=f"token {ben}") == (404, "session_not_found")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"])
def test_pages_of_other_servers_open_nothing(service: Service, session: Session, origin: str) -> None:
    """Also where no keys are set: a page that somebody looks at must not reach a kernel."""
    assert refusal(address(service, session.id), Origin=origin) == (403, "foreign_origin")
    for method, path in (("POST", "/api/kernels"), ("GET", "/api/kernels"), ("GET", "/api/kernelspecs")):
        response = service.api.http.request(method, path, headers={"Origin": origin})
        assert (response.status_code, response.json()["code"]) == (403, "foreign_origin")


def test_a_page_of_the_service_itself_may(service: Service, session: Session) -> None:
    """Its Origin is the host that it asks."""
    with open_channels(service, session.id, headers={"Origin": service.base_url}) as channels:
        assert channels.run("1").status == "ok"


def test_the_log_tells_of_sockets_and_not_of_keys(guarded: KeyedService, owned: Session) -> None:
    """One line for each handshake, accepted or not, without its query."""
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


def test_what_is_no_handshake_is_refused_like_the_rest(service: Service, session: Session) -> None:
    """With the caller's id, a code, and a line in the log: also what the library beneath refuses."""
    host, port = service.base_url.removeprefix("http://").split(":")
    upgrade = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Request-ID: no-handshake"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"GET /api/kernels/{session.id}/channels HTTP/1.1\r\n{upgrade}\r\n\r\n".encode())
        head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
    assert head.split()[1] == b"400"
    assert b"X-Request-ID: no-handshake" in head
    assert json.loads(body)["code"] == "invalid_handshake"
    assert "request_id=no-handshake" in service.log_path.read_text()


def test_a_cell_has_the_time_of_notebooks(guarded: KeyedService, owned: Session) -> None:
    """Longer than a call of the API may take, and no longer than their own limit; variables stay."""
    headers = {"Authorization": f"token {guarded.key('ada')}"}
    with open_channels(guarded.service, owned.id, headers=headers) as channels:
        assert channels.run("import time\nkept = 7\ntime.sleep(1.2)").status == "ok"
        began = time.monotonic()
        outcome = channels.run("while True: time.sleep(0.05)")
        assert time.monotonic() - began >= CELL_SEC
        assert outcome.reply["content"]["ename"] == "TimeoutExceeded"
        assert [error["content"]["ename"] for error in outcome.of("error")][-1] == "TimeoutExceeded"
        assert channels.run("kept").data() == {"text/plain": "7"}


def test_a_handler_of_a_widget_has_it_as_well(guarded: KeyedService) -> None:
    """It runs code like a cell; what does not heed the interrupt is ended."""
    headers = {"Authorization": f"token {guarded.key('ada')}"}
    with (
        new_session(guarded.service, guarded.api("ada")) as session,
        open_channels(guarded.service, session.id, headers=headers) as channels,
    ):
        channels.run(
            "import time\ndef target(comm, message):\n    print('in')\n    time.sleep(60)\n"
            "get_ipython().kernel.comm_manager.register_target('mine', target)"
        )
        began = time.monotonic()
        request = channels.send("comm_open", {"comm_id": "c", "target_name": "mine", "data": {}})
        assert channels.outcome(request, replies=False).text == "in\n"
        assert CELL_SEC <= time.monotonic() - began < CELL_SEC + 8
        assert channels.run("1").status == "ok"


def test_what_a_notebook_is_shown_is_bounded(guarded: KeyedService, owned: Session) -> None:
    """Five times what a cell's outputs may be together, and then it is said that there was more."""
    headers = {"Authorization": f"token {guarded.key('ada')}"}
    with open_channels(guarded.service, owned.id, headers=headers) as channels:
        outcome = channels.run("for i in range(30): display({'text/plain': 'x' * 100_000}, raw=True)")
    shown = outcome.of("display_data")
    assert 8 <= len(shown) <= 11
    assert "left out" in shown[-1]["content"]["data"]["text/plain"]


def test_cells_have_the_limits_of_a_key_and_cpu_time_of_their_own(start_service: StartService) -> None:
    """What is over a limit is an error, and the socket goes on.

    Requests a minute, executions at once; CPU time, at whose end the kernel's end comes, and the message
    names the limit that was met.
    """
    key = "a" * 32
    service = start_service(
        API_KEYS=f"ada:{key}",
        KEY_REQUESTS_PER_MINUTE=30,
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
        request = channels.begin("while True: pass")
        channels.until_kind("execute_input")
        assert other.run("1").reply["content"]["ename"] == "TooManyExecutions"
        content = channels.outcome(request).reply["content"]
        assert content["ename"] == "CpuTimeLimitExceeded"
        assert "JUPYTER_CPU_TIME_LIMIT_SEC=1" in content["evalue"]
        outcomes = [channels.run("1") for _ in range(40)]
        assert outcomes[0].status == "ok"
        assert outcomes[-1].reply["content"]["ename"] == "TooManyRequests"
    time.sleep(60 / 30 + 0.5)
    assert service.api.http.delete(f"/api/kernels/{kernel_id}", headers=headers).status_code == 204
