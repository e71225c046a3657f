"""Tests of sessions called by the replica that does not hold them."""

import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection

import pytest

from tests.gateway.channels import open_channels
from tests.replicas.conftest import Group
from tests.support.api import Api, problem
from tests.support.process import Service
from tests.support.session import Session, live_sessions, new_session

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def replicas(group: Group) -> tuple[Service, Service]:
    """Return the replica that opens the sessions, and the other one."""
    return group.members[0], group.members[1]


@pytest.fixture(scope="module")
def direct(replicas: tuple[Service, Service]) -> Iterator[Session]:
    """Return a session, called by its holder."""
    with new_session(replicas[0]) as session:
        yield session


@pytest.fixture
def forwarded(direct: Session, replicas: tuple[Service, Service]) -> Session:
    """Return the same session, called by the other replica."""
    return Session(replicas[1], direct.created)


def test_calls_by_another_replica_reach_the_session(direct: Session, forwarded: Session) -> None:
    """Cells, commands, completions and history work, with the id in the path and in a body."""
    direct.run("x = 41")
    assert forwarded.printed("print(x + 1)") == "42"
    assert direct.describe() == forwarded.describe()
    assert forwarded.bash("echo $((6 * 7))")["stdout"] == "42\n"
    result = forwarded.api.execute("print(x)", session_id=forwarded.id).json()
    assert result["stdout"] == "41\n"
    completed = forwarded.call("POST", "/complete", json={"code": "x.bit_len", "cursor": 9}).json()
    assert "bit_length" in str(completed)
    assert forwarded.extend(1000)["expires_at"] > time.time() + 900
    assert [cell["cell_id"] for cell in forwarded.cells()] == [cell["cell_id"] for cell in direct.cells()]
    assert forwarded.call("GET", "/notebook").json()["nbformat"] == 4
    problem(forwarded.execute("x", timeout_ms=10**9))


def test_output_is_streamed_as_it_is_printed(forwarded: Session) -> None:
    """Each line arrives when it is printed, not at the end."""
    code = "import time\nfor i in range(3):\n    print(i, flush=True); time.sleep(0.5)"
    with forwarded.open_stream(code) as events:
        times = [time.monotonic() for event in events if event.type == "output"]
    assert len(times) >= 3 and times[-1] - times[0] > 0.6


def test_a_stream_that_breaks_interrupts_the_code(direct: Session, forwarded: Session) -> None:
    """A client that disconnects from one replica is disconnected from the holder too."""
    with forwarded.open_stream("import time\nprint('up', flush=True)\ntime.sleep(30)") as events:
        next(iter(events))
        assert direct.describe()["state"] == "busy"
    deadline = time.monotonic() + 10
    while direct.describe()["state"] == "busy":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_running_code_gets_input_and_interrupts(direct: Session, forwarded: Session) -> None:
    """By either replica: a detached cell has its result, `input()` gets its text, interrupts arrive."""
    cell_id = forwarded.detach("print(6 * 7)")
    assert direct.finished(cell_id)["result"]["stdout"] == "42\n"
    assert forwarded.finished(cell_id)["result"]["stdout"] == "42\n"
    for asking, answering in ((direct, forwarded), (forwarded, direct)):
        printed = []
        with asking.open_stream("print(input('what? '))", allow_stdin=True) as events:
            for event in events:
                if event.type == "input_request":
                    answering.call("POST", "/input", json={"value": "this"}).raise_for_status()
                if event.type == "output":
                    printed.append(event.data["data"])
        assert "this" in "".join(printed)
    cell_id = direct.detach("import time; time.sleep(30)")
    time.sleep(0.3)
    forwarded.interrupt()
    assert forwarded.finished(cell_id)["result"]["error"]["name"] == "KeyboardInterrupt"
    assert forwarded.restart()["execution_count"] == 0


def test_files_are_written_and_read(
    direct: Session, forwarded: Session, replicas: tuple[Service, Service]
) -> None:
    """Files are written to the workspace and read from it. Inputs may be stored by either replica."""
    content = bytes(range(256)) * 8000
    forwarded.put("in/large.bin", content)
    assert direct.read("in/large.bin") == content == forwarded.read("in/large.bin")
    file_id = replicas[0].api.upload(b"1,2\n", "a.csv")
    assert replicas[1].api.download(file_id) == b"1,2\n"
    result = forwarded.run(
        "open('b.csv', 'w').write(open('a.csv').read() * 2)", files=[{"path": "a.csv", "file_id": file_id}]
    )
    (made,) = result["files"]
    assert replicas[0].api.download(made["file_id"]) == b"1,2\n1,2\n"
    assert replicas[1].api.http.delete(f"/v1/files/{made['file_id']}").status_code == 204
    assert replicas[0].api.http.get(f"/v1/files/{made['file_id']}").status_code == 404


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_an_unread_body_does_not_affect_other_calls(forwarded: Session, method: str) -> None:
    """Replicas share connections between calls, so an announced body is always sent in full."""
    path = {"GET": "", "DELETE": "/files/none", "POST": "/interrupt"}[method]
    for body in (b"GET /v1/files HTTP/1.1\r\n", iter([b"in", b"chunks"])):
        forwarded.call(method, path, content=body)
        for _ in range(3):
            assert forwarded.describe()["session_id"] == forwarded.id


def test_each_header_of_a_response_occurs_once(
    direct: Session, forwarded: Session, replicas: tuple[Service, Service]
) -> None:
    """The headers are those of the holder's response, and both logs have the same request id."""
    answering = [session.call("POST", "/execute", json={"code": "1"}) for session in (direct, forwarded)]
    names = [sorted(name for name, _ in answer.headers.raw) for answer in answering]
    assert names[0] == names[1] and len(set(names[1])) == len(names[1])
    request_id = answering[1].headers["X-Request-ID"]
    deadline = time.monotonic() + 10
    while not all(request_id in service.log_path.read_text() for service in replicas):
        assert time.monotonic() < deadline, "a line is written once the answer is sent"
        time.sleep(0.1)


@pytest.mark.parametrize("name", ["%2e%2e/x", "../x", "%7Ea", "a%2Fb"])
def test_paths_are_forwarded_unchanged(direct: Session, forwarded: Session, name: str) -> None:
    """Paths are not normalised on the way, so both replicas see the same call."""
    answering = []
    for session in (direct, forwarded):
        address = session.api.http.base_url
        connection = HTTPConnection(address.host, address.port, timeout=30)
        connection.request("PUT", f"{direct.url}/files/{name}", b"1")
        answer = connection.getresponse()
        answering.append((answer.status, answer.read()))
        connection.close()
    assert answering[0] == answering[1] and answering[0][0] in (201, 422)


def test_memory_stays_flat_while_files_stream(replicas: tuple[Service, Service]) -> None:
    """A file that goes to the object storage or comes from it is never in memory as a whole."""
    service, size = replicas[0], 100 << 20
    service.api.download(service.api.upload(bytes(12 << 20)))
    before = service.resident_kb()

    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(size >> 20):
            yield bytes(1 << 20)
        yield b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    file_id = service.api.http.post("/v1/files", content=body(), headers=headers).json()["file_id"]
    peak_kb = service.resident_kb()
    received = 0
    with service.api.http.stream("GET", f"/v1/files/{file_id}") as download:
        for chunk in download.iter_raw():
            received += len(chunk)
        peak_kb = max(peak_kb, service.resident_kb())
    assert received == size
    assert peak_kb - before < 64 << 10
    assert service.api.http.delete(f"/v1/files/{file_id}").status_code == 204


def test_both_list_all_sessions(direct: Session, replicas: tuple[Service, Service]) -> None:
    """Both replicas list them in the API, and as kernels."""
    with new_session(replicas[1]) as other:
        for service in replicas:
            assert live_sessions(service.api) == [direct.id, other.id]
            kernels = service.api.http.get("/api/kernels").json()
            assert {kernel["id"] for kernel in kernels} == {direct.id, other.id}


def test_a_notebook_connects_to_its_kernel(direct: Session, replicas: tuple[Service, Service]) -> None:
    """A WebSocket to the other replica works, with both protocols and with large messages."""
    direct.run("y = 'z' * 1_000_000")
    for v1 in (False, True):
        with open_channels(replicas[1], direct.id, v1=v1) as channels:
            assert len(channels.run("print(y)").text) == 1_000_001
            outcome = channels.run("print(input('? '))", answer="yes")
            assert "yes" in outcome.text


def test_an_mcp_client_may_change_replicas(replicas: tuple[Service, Service]) -> None:
    """Variables of an MCP session are there on the other replica. Ending it there ends it on both."""
    accepts = {"Accept": "application/json, text/event-stream"}

    def post(api: Api, body: dict[str, object], **headers: str) -> tuple[int, str, str]:
        answer = api.http.post("/mcp", json=body, headers=accepts | headers)
        return answer.status_code, answer.text, answer.headers.get("mcp-session-id", "")

    begin = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    status, text, conversation = post(replicas[0].api, begin)
    assert status == 200 and conversation, text
    headers = {"mcp-session-id": conversation}
    for service in replicas:
        post(service.api, {"jsonrpc": "2.0", "method": "notifications/initialized"}, **headers)
    for number, service, code in ((2, replicas[0], "v = 41"), (3, replicas[1], "print(v + 1)")):
        call = {"name": "run_python", "arguments": {"code": code}}
        body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call}
        status, text, _ = post(service.api, body, **headers)
        assert status == 200, text
    assert "42" in text
    assert replicas[1].api.http.delete("/mcp", headers=headers).status_code == 200
    assert post(replicas[0].api, body, **headers)[0] == 404


def test_a_deleted_session_ends_on_both_replicas(replicas: tuple[Service, Service]) -> None:
    """The other replica deletes the session: its container is removed, and both give the reason."""
    with new_session(replicas[0]) as direct:
        forwarded = Session(replicas[1], direct.created)
        assert forwarded.delete().status_code == 204
        assert direct.ended()["reason"] == forwarded.ended()["reason"] == "deleted"
        assert problem(forwarded.call("GET", "/../unknown"))["code"]


def test_headers_of_a_replica_without_a_signature_are_ignored(direct: Session) -> None:
    """Unsigned headers of a replica identify no caller, and the call is served as without them."""
    forged = {"X-Replica-Caller": "WyJhIl0=", "X-Replica-Signature": "0" * 64}
    assert direct.call("GET", headers=forged).status_code == 200


def test_simultaneous_calls_by_both_replicas_take_turns(direct: Session, forwarded: Session) -> None:
    """Eight callers on two replicas use one session, and no two calls run at the same time."""
    direct.run("n = 0")
    code = "m = n; import time; time.sleep(0.05); n = m + 1"
    run: Callable[[Session], object] = lambda session: session.run(code)  # noqa: E731
    threads = [threading.Thread(target=run, args=(session,)) for session in (direct, forwarded) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert forwarded.printed("print(n)") == "8"
