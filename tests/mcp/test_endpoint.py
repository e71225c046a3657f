"""``/mcp`` over HTTP: keys, owners, limits, invalid messages, long streams."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.client.command import PROGRAM
from tests.conftest import LIGHT, serving
from tests.mcp.support import ACCEPT, INITIALIZE, message, tool_call
from tests.support.process import ROOT, Service
from tests.support.session import WAIT_FOR_FILE
from tests.support.sse import strict_json
from tests.support.waiting import soon

KEYS = {"ann": "the-key-of-ann-1234567890", "bob": "the-key-of-bob-1234567890"}
CLIENT_TIMEOUT_SEC = 2
TTL_SEC = 2


class Caller:
    """The requests of one key, in one session of the protocol."""

    def __init__(self, service: Service, key: str | None) -> None:
        headers = ACCEPT if key is None else ACCEPT | {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(base_url=service.base_url, headers=headers, timeout=60)

    def open(self) -> str:
        """Begin a session."""
        self.http.headers.pop("Mcp-Session-Id", None)
        answer = self.post(message("initialize", **INITIALIZE))
        assert answer.status_code == 200, answer.text
        self.http.headers["Mcp-Session-Id"] = answer.headers["mcp-session-id"]
        self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer.headers["mcp-session-id"]

    def post(self, body: Any, **headers: str) -> httpx.Response:
        """Send a message, or bytes that may not be a message."""
        if isinstance(body, bytes):
            headers |= {"Content-Type": "application/json"}
            return self.http.post("/mcp", content=body, headers=headers)
        return self.http.post("/mcp", json=body, headers=headers)

    def call(self, name: str, request_id: int = 2, **arguments: Any) -> tuple[bool, str]:
        """Call a tool; return whether it failed, and the text of its result."""
        result = event(self.post(tool_call(name, request_id, **arguments)))["result"]
        return result["isError"], result["content"][0]["text"]

    def sessions(self) -> list[str]:
        """Return the ids of the key's sessions of the service."""
        return [body["session_id"] for body in self.http.get("/v1/sessions").json()["sessions"]]

    def has_file(self, path: str) -> bool:
        """Return whether one of the key's sessions has a file of that path."""
        listings = [
            self.http.get(f"/v1/sessions/{session_id}/files").json() for session_id in self.sessions()
        ]
        return any(file["path"] == path for listing in listings for file in listing.get("files", ()))

    def close(self) -> None:
        """End the session of the protocol."""
        self.http.delete("/mcp")
        self.http.close()


def event(answer: httpx.Response) -> dict[str, Any]:
    """Return the only message of an answer that is a stream."""
    assert answer.status_code == 200, answer.text
    data = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    assert len(data) == 1, answer.text
    body = strict_json(data[0].removeprefix("data: ").encode())
    assert isinstance(body, dict)
    return body


@pytest.fixture(scope="module")
def strict(open_service: Callable[..., Service]) -> Iterator[Service]:
    """A service with keys, and with capacity for one session of any key."""
    yield from serving(
        open_service,
        **LIGHT,
        CONTAINER_REUSE="never",
        API_KEYS=",".join(f"{name}:{key}" for name, key in KEYS.items()),
        POOL_SIZE=1,
        MAX_CONTAINERS=1,
        QUEUE_TIMEOUT_SEC=1,
        KEY_MAX_SESSIONS=1,
        KEY_REQUESTS_PER_MINUTE=0,
        SESSION_QUEUE_SIZE=0,
        MAX_EXEC_TIMEOUT_MS=60_000,
        MAX_REQUEST_BYTES=65_536,
        MCP_SESSION_SEC=TTL_SEC,
        CLIENT_TIMEOUT_SEC=CLIENT_TIMEOUT_SEC,
    )


@pytest.fixture
def ann(strict: Service) -> Iterator[Caller]:
    """A caller with a key and a session of the protocol."""
    strict.settle()
    caller = Caller(strict, KEYS["ann"])
    caller.open()
    yield caller
    caller.close()


@pytest.fixture
def bob(strict: Service) -> Iterator[Caller]:
    """A caller with another key."""
    caller = Caller(strict, KEYS["bob"])
    caller.open()
    yield caller
    caller.close()


@pytest.mark.parametrize(("key", "challenge"), [(None, ""), ("wrong", 'error="invalid_token"')])
def test_request_without_a_valid_key_is_refused(strict: Service, key: str | None, challenge: str) -> None:
    """The answer is 401 with `WWW-Authenticate`, as the specification of the protocol requires."""
    caller = Caller(strict, key)
    answer = caller.post(message("initialize", **INITIALIZE))
    caller.http.close()
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert challenge in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("key", "expected"), [(KEYS["bob"], "'ours'"), ("wrong", "CODE_INTERPRETER_API_KEY")]
)
def test_program_for_stdio_sends_its_key(strict: Service, key: str, expected: str) -> None:
    """If the key is not valid, the error names the variable that holds it."""
    strict.settle()
    requests = [message("initialize", 1, **INITIALIZE), tool_call("run_python", 2, code="'ours'")]
    with subprocess.Popen(
        [PROGRAM, "mcp"],
        env={"CODE_INTERPRETER_URL": strict.base_url, "CODE_INTERPRETER_API_KEY": key},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        for request in requests:
            program.stdin.write(json.dumps(request).encode() + b"\n")
            program.stdin.flush()
            answer = program.stdout.readline().decode()
        assert expected in answer
        program.stdin.close()
        assert program.wait(60) == 0


def test_session_of_another_key_is_unknown(ann: Caller, bob: Caller) -> None:
    """For every method the answer is that for an id that never existed."""
    session_id = ann.http.headers["Mcp-Session-Id"]
    stolen, made_up = {"Mcp-Session-Id": session_id}, {"Mcp-Session-Id": "0" * 32}
    for method in ("POST", "GET", "DELETE"):
        body = tool_call("list_files") if method == "POST" else None
        answers = [
            bob.http.request(method, "/mcp", json=body, headers=headers) for headers in (stolen, made_up)
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].text == answers[1].text
    assert event(ann.post(message("ping")))["result"] == {}


def test_files_of_another_key_are_unknown(ann: Caller, bob: Caller) -> None:
    """Another key can read neither a stored file nor a file of a session."""
    _, text = ann.call("run_python", code="open('mine.txt', 'w').write('x')")
    address = text.split("1 bytes: ")[1].removesuffix("]")
    listed = event(ann.post(message("resources/list")))["result"]["resources"][0]["uri"]
    for uri in (address, listed):
        assert "result" in event(ann.post(message("resources/read", uri=uri)))
        assert event(bob.post(message("resources/read", uri=uri)))["error"]["code"] == -32002


def test_expired_session_is_replaced_and_the_result_has_a_note(ann: Caller, strict: Service) -> None:
    """The next call runs in a new session. Its result begins with a note about that."""
    ann.call("run_python", code="x = 1", timeout_seconds=1)
    assert soon(lambda: not ann.sessions()), "the session has not expired"
    deadline = time.monotonic() + 60
    failed, text = ann.call("run_python", code="x")
    while text.startswith("no kernel is free"):  # the container of the old session is still being replaced
        assert time.monotonic() < deadline, text
        failed, text = ann.call("run_python", code="x")
    assert failed
    assert text.startswith("[The previous session expired")
    assert "NameError" in text


def test_limits_are_results_that_say_what_to_do(ann: Caller, bob: Caller, strict: Service) -> None:
    """The limits are: a busy session, the sessions of a key, and the containers of the service."""

    def work() -> tuple[bool, str]:
        return ann.call("run_python", code=f"open('began', 'w')\n{WAIT_FOR_FILE}", timeout_seconds=60)

    second = Caller(strict, KEYS["ann"])
    second.open()
    with ThreadPoolExecutor() as threads:
        working = threads.submit(work)
        assert soon(lambda: second.has_file("began"))
        failed, text = second.call("run_python", code="1")
        assert failed
        assert "KEY_MAX_SESSIONS=1 sessions are already open" in text
        failed, text = bob.call("run_python", code="1")
        assert failed
        assert "no kernel is free" in text
        assert "try again in" in text
        failed, text = ann.call("run_shell", request_id=3, command="true")
        assert failed
        assert "is busy; try again" in text
        [session_id] = second.sessions()
        second.http.put(f"/v1/sessions/{session_id}/files/go", content=b"")
        assert working.result()[0] is False
    second.close()


def test_streams_may_last_longer_than_the_timeout_of_silent_clients(ann: Caller) -> None:
    """Neither an idle stream nor long code is cut off. A stream ends properly with its session."""
    with ann.http.stream("GET", "/mcp") as stream:
        assert stream.status_code == 200
        failed, text = ann.call(
            "run_python",
            code=f"import time; time.sleep({CLIENT_TIMEOUT_SEC + 2}); print('done')",
            timeout_seconds=15,
        )
        assert (failed, "done" in text) == (False, True)
        ann.http.delete("/mcp")
        assert b"".join(stream.iter_raw()) == b""


def test_broken_connection_does_not_cancel_the_call(ann: Caller, strict: Service) -> None:
    """The code and the session go on."""
    code = f"open('began', 'w')\n{WAIT_FOR_FILE}\nfinished = 'yes'"
    call = tool_call("run_python", 7, code=code, timeout_seconds=60)
    observer = Caller(strict, KEYS["ann"])
    with ann.http.stream("POST", "/mcp", json=call):
        assert soon(lambda: observer.has_file("began"))
    [session_id] = observer.sessions()
    observer.http.put(f"/v1/sessions/{session_id}/files/go", content=b"")
    observer.http.close()

    def is_finished() -> bool:
        text = ann.call("run_python", code="finished", timeout_seconds=10)[1]
        assert text == "'yes'" or "busy" in text
        return text == "'yes'"

    assert soon(is_finished)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 50_000,
        b'"\xff"',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"1.0","id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}',
        b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":' + b"9" * 5000 + b"}}",
    ],
)
def test_invalid_message_is_refused(ann: Caller, body: bytes) -> None:
    """The answer is 400 with an error of JSON-RPC, and the session is kept."""
    answer = ann.post(body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in (-32700, -32600, -32602)
    assert event(ann.post(message("ping")))["result"] == {}


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("nothing/known", {}, -32601),
        ("tools/call", {}, -32602),
        ("tools/call", {"name": "run_python", "arguments": []}, -32602),
        ("tools/call", {"name": "list_files", "_meta": {"progressToken": {}}}, -32602),
        ("resources/read", {"uri": 5}, -32602),
        ("resources/read", {"uri": "x" * 10_000}, -32002),
        ("resources/list", {"cursor": "-1"}, -32602),
        ("initialize", {}, -32600),
    ],
)
def test_unknown_method_or_invalid_parameters_are_errors(
    ann: Caller, method: str, params: dict[str, Any], code: int
) -> None:
    """The answer has the error code of the protocol."""
    assert event(ann.post(message(method, **params)))["error"]["code"] == code


@pytest.mark.parametrize("declared", [True, False])
def test_body_over_the_limit_is_refused(ann: Caller, declared: bool) -> None:
    """The answer is 413, whether the request declares its length or not."""
    body = b" " * 100_000
    answer = ann.http.post(
        "/mcp",
        content=body if declared else iter([body[:50_000], body[50_000:]]),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 413
    assert answer.json()["code"] == "request_too_large"


@pytest.mark.parametrize("origin", ["http://evil.example", "http://evil.example:8000", "null", "http://[::1"])
def test_pages_of_other_sites_are_refused(ann: Caller, origin: str) -> None:
    """With DNS rebinding the name of a page resolves to this machine, but its Origin has that name."""
    answer = ann.post(message("ping"), Origin=origin)
    assert answer.status_code == 403
    assert answer.json()["code"] == "origin_refused"


def test_version_without_sessions_is_refused_with_the_supported_versions(ann: Caller) -> None:
    """A client that supports one of them then begins a session."""
    del ann.http.headers["Mcp-Session-Id"]
    answer = ann.post(message("server/discover"), **{"MCP-Protocol-Version": "2026-07-28"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == -32022
    assert "2025-11-25" in answer.json()["error"]["data"]["supported"]


def test_conversations_of_a_key_are_limited(strict: Service, bob: Caller) -> None:
    """A key that opens conversations and ends none is refused at the limit. Other keys are not."""
    greedy = Caller(strict, KEYS["ann"])
    opened = []
    try:
        while (answer := greedy.post(message("initialize", **INITIALIZE))).status_code == 200:
            opened.append(answer.headers["mcp-session-id"])
            assert len(opened) <= 500
        assert answer.status_code == 503
        assert event(bob.post(message("ping")))["result"] == {}
    finally:
        for session_id in opened:
            greedy.http.delete("/mcp", headers={"Mcp-Session-Id": session_id})
        greedy.http.close()


def test_only_the_first_request_imports_the_sdk() -> None:
    """A service without MCP clients has neither the delay nor the memory."""
    code = "import sys, service.server; print({'mcp', 'mcp_types', 'httpx2'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


def test_service_stops_while_a_stream_is_open(start_service: Callable[..., Service]) -> None:
    """The stream ends properly, and the session of the conversation and its container are removed."""
    service = start_service(POOL_SIZE=1)
    caller = Caller(service, None)
    caller.open()
    assert caller.call("run_python", code="1")[0] is False
    with caller.http.stream("GET", "/mcp") as stream:
        service.process.terminate()
        assert b"".join(stream.iter_raw()) == b""
    caller.http.close()
    service.process.wait(60)
    assert " ERROR " not in Path(service.log_path).read_text()
    assert service.engine.owned(service.instance_id) == set()
