"""Tests of the log: ids in lines and responses, JSON lines, and no data of callers."""

import asyncio
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from service.http.server.access_log import AccessLog
from service.telemetry.logs import AddRequestContext, JsonLines, _uncaught_in_thread, describe, loop_failed
from sessions.errors import RegistryUnavailable, log_text
from sessions.kernels.errors import SupervisorFailed
from tests.gateway.channels import open_channels
from tests.mcp.support import ACCEPT, INITIALIZE, message, tool_call
from tests.routes.files_support import serve_app
from tests.support.api import Api
from tests.support.keys import KeyedService
from tests.support.process import Service
from tests.support.session import new_session
from tests.support.settings import make_settings


@pytest.fixture
def api(watched: KeyedService) -> Api:
    """A client with a key of its own."""
    return watched.api("logged")


def lines(service: Service) -> list[dict[str, Any]]:
    """Return all lines of the JSON log of the service."""
    return [json.loads(line) for line in service.log_path.read_text().splitlines()]


def lines_of(service: Service, request_id: str) -> list[dict[str, Any]]:
    """Return the log lines of a request. Wait for its access log line, which may follow the response."""
    deadline = time.monotonic() + 60
    while True:
        found = [line for line in lines(service) if line.get("request_id") == request_id]
        if any(line["logger"] == "service.http.server.access_log" for line in found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


# Ids -------------------------------------------------------------------------------------------


def test_log_has_a_line_with_the_ids_of_the_response(watched: KeyedService, api: Api) -> None:
    """The access log line has the name of the key, method, path, status and duration."""
    response = api.execute("1")
    found = lines_of(watched.service, response.headers["x-request-id"])
    (line,) = (line for line in found if line["logger"] == "service.http.server.access_log")
    assert line["execution_id"] == response.json()["execution_id"]
    assert re.fullmatch("[0-9a-f]{32}", line["trace_id"])
    assert (line["key"], line["method"], line["path"]) == ("logged", "POST", "/v1/execute")
    assert (line["status"], line["level"]) == (200, "INFO")
    assert line["duration_ms"] > 0
    assert line["time"].startswith("20")


IDS = {
    "abc-1": True,
    "A.b_c:D-9" * 14: True,
    "x" * 128: True,
    "x" * 129: False,
    "": False,
    "two words": False,
    "semi;colon": False,
    '"quoted"': False,
    "-first": False,
    "ünï": False,
}


@pytest.mark.parametrize("given", IDS)
def test_valid_request_id_is_kept_and_another_is_replaced(watched: KeyedService, given: str) -> None:
    """The response and the log have the same id."""
    header = [(b"X-Request-ID", given.encode())]
    response = httpx.get(f"{watched.service.base_url}/health", headers=header)
    (answered,) = response.headers.get_list("x-request-id")
    if IDS[given]:
        assert answered == given
    else:
        assert re.fullmatch("[0-9a-f]{32}", answered)
    assert lines_of(watched.service, answered)


def test_two_request_ids_are_replaced(watched: KeyedService) -> None:
    """The id that the caller means is ambiguous."""
    headers = [("X-Request-ID", "one"), ("X-Request-ID", "two")]
    response = httpx.get(f"{watched.service.base_url}/health", headers=headers)
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


def test_every_response_has_a_request_id(watched: KeyedService, api: Api) -> None:
    """Errors, streams and requests that cannot be parsed have one too."""
    http, given = api.http, {"X-Request-ID": "mine"}
    bad_key = {"X-API-Key": "wrong", "X-Request-ID": "mine"}
    for response in (
        http.get("/v1/files", headers=given),
        http.get("/nowhere", headers=given),
        http.put("/v1/execute", headers=given),
        http.get("/v1/files", headers=bad_key),
        http.post("/v1/execute", content=b"{", headers=given),
        http.post("/v1/execute", content=b"x" * (5 << 20), headers=given),
        http.post("/v1/execute/stream", json={"code": "1"}, headers=given),
        http.head("/v1/files/none", headers=given),
        http.get("/v1/files/", headers=given),
    ):
        assert response.headers["x-request-id"] == "mine", response
    host, port = watched.service.base_url.removeprefix("http://").split(":")
    for request, status in ((b"NONSENSE\r\n\r\n", b"400"), (b"GET /" + b"x" * 70_000, b"431")):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(request)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.split()[1] == status
        assert re.search(rb"\r\nx-request-id: [0-9a-f]{32}\r\n", answer)
        assert set(json.loads(answer.partition(b"\r\n\r\n")[2])) == {"detail", "code"}


def test_log_lines_of_a_request_have_its_ids(watched: KeyedService, api: Api) -> None:
    """Lines of tasks that go on after the response have the ids too. Lines of the pool have none."""
    with new_session(watched.service, api) as session:
        response = session.call("DELETE")
        found = lines_of(watched.service, response.headers["x-request-id"])
        assert any(line["message"] == f"session {session.id} ended: deleted" for line in found)
    started = [line for line in lines(watched.service) if "an idle kernel uses" in line["message"]]
    assert started and all("request_id" not in line for line in started)


# No data of callers ----------------------------------------------------------------------------


def test_log_has_nothing_that_callers_send(watched: KeyedService, api: Api) -> None:
    """Successful and failed calls log no code, input, output, file, header, query, path or key."""
    canary = f"Canary{uuid.uuid4().hex}"
    http, service = api.http, watched.service
    file_id = api.upload(canary.encode(), f"{canary}.txt")
    files = [{"path": f"{canary}/in.txt", "file_id": file_id}]
    code = (
        f"# {canary}\nprint(input())\nopen('{canary}', 'w').write('{canary}')\nraise ValueError('{canary}')"
    )
    body = {"code": code, "stdin": canary, "files": files}
    http.post(f"/v1/execute?q={canary}", json=body, headers={"X-Canary": canary, "Cookie": canary})
    http.post("/v1/execute/stream", json=body)
    http.post("/v1/execute", json=body | {"session_id": canary})
    http.post("/v1/execute", json=body | {"files": [{"path": f"../{canary}", "file_id": canary}]})
    http.post("/v1/execute", json=body | {"timeout_ms": canary})
    http.post("/v1/execute", content=f'{{"code": "{canary}'.encode())
    http.get(f"/v1/files/{canary}")
    http.get(f"/{canary}/{canary}", params={"key": canary})
    http.get("/v1/files", headers={"Authorization": f"Bearer {canary}"})
    http.get("/v1/files", params={"after": canary})
    http.get(f"/v1/executions/{canary}")
    http.post(
        "/v1/files",
        content=canary.encode(),
        headers={"Content-Type": f"multipart/form-data; boundary={canary}"},
    )
    with new_session(service, api) as session:
        session.put(f"{canary}.txt", canary.encode())
        assert session.read(f"{canary}.txt") == canary.encode()
        session.file("GET", f"not/{canary}")
        session.file("PATCH", f"{canary}.txt", json={"path": f"{canary}/new"})
        session.file("PUT", f"{canary}.txt/below", content=b"x")
        session.execute(code, stdin=canary, files=files)
        session.bash(f"echo {canary} > {canary}; cat nothing-{canary}; exit 3")
        # A file is in the place of the input's folder. The supervisor refuses the input and says why.
        session.bash(f"rm -rf {canary}; touch {canary}")
        session.execute("1", files=files)
        session.execute(f"import os; os.environ['{canary}']; os._exit(3)")
    jupyter = http.post("/api/kernels").json()["id"]
    with open_channels(service, jupyter, headers={"X-API-Key": http.headers["x-api-key"]}) as channels:
        channels.run(f"print('{canary}')\n{canary}")
        channels.send("complete_request", {"code": canary, "cursor_pos": 3})
        channels.send(canary, {canary: canary})
    talk_over_mcp(http, canary)
    http.delete(f"/api/kernels/{jupyter}")
    lines_of(service, http.get("/v1/files").headers["x-request-id"])
    log = service.log_path.read_text()
    assert canary not in log
    assert not [key for key in watched.every_key() if key in log]
    assert len(log.splitlines()) == len(lines(service))


def talk_over_mcp(http: httpx.Client, canary: str) -> None:
    """Call tools with valid and invalid arguments."""
    begun = http.post("/mcp", json=message("initialize", **INITIALIZE), headers=ACCEPT)
    headers = ACCEPT | {"Mcp-Session-Id": begun.headers["mcp-session-id"]}
    http.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=headers)
    answers = [
        http.post("/mcp", json=call, headers=headers)
        for call in (
            tool_call("run_python", code=f"print('{canary}')\n{canary}"),
            tool_call("run_shell", command=f"echo {canary} >&2; {canary}"),
            tool_call("write_file", path=canary, text=canary),
            tool_call("read_file", path=canary),
            tool_call("read_file", path=f"{canary}/{canary}"),
            tool_call("run_python", **{canary: canary}),
            tool_call(canary),
            message(canary),
        )
    ]
    assert canary in answers[0].text
    http.delete("/mcp", headers=headers)


def test_paths_are_shown_without_names() -> None:
    """The shown path has the words of the API and ids. The rest is replaced by a star."""
    access_log = AccessLog(["/v1/sessions/{session_id}/files/{path}", "/v1/files", "/health"])
    session_id = str(uuid.uuid4())
    assert access_log.shown("/health") == "/health"
    assert (
        access_log.shown(f"/v1/sessions/{session_id}/files/my/file.txt")
        == f"/v1/sessions/{session_id}/files/*/*"
    )
    assert access_log.shown("/v1/files/secret") == "/v1/files/*"
    assert access_log.shown("/") == "/"
    assert len(access_log.shown("/a" * 10_000)) < 40


# Unexpected errors -----------------------------------------------------------------------------


def failing() -> None:
    """Raise an error with text of a caller, caused by another such error."""
    try:
        dict[str, str]()["Canary"]
    except KeyError as error:
        raise ValueError("Canary") from error


def test_logged_traceback_omits_text_that_callers_may_have_sent() -> None:
    """The text of an error is logged only if it cannot quote a caller."""
    try:
        failing()
    except ValueError:
        text = describe(sys.exc_info())
    assert "in failing" in text and "Which led to:" in text
    assert text.index("KeyError") < text.index("ValueError")
    assert "ValueError: " not in text
    for error, shown in (
        (OSError(28, "No space left on device", "/Canary"), "OSError: [Errno 28] No space left on device"),
        (RegistryUnavailable("locked"), "RegistryUnavailable: The service's registry does not"),
        (SupervisorFailed("PUT /files: 409", "/files/Canary"), "SupervisorFailed"),
    ):
        text = describe((type(error), error, None))
        assert shown in text and "Canary" not in text
    failed = SupervisorFailed("PUT /files: 409", "/files/Canary")
    assert "Canary" in str(failed) and "Canary" in failed.reason
    assert log_text(failed) == "the kernel container failed: PUT /files: 409"


@pytest.fixture
def json_log(tmp_path: Path) -> Iterator[Path]:
    """The file to which this process logs in JSON during the test."""
    handler = logging.FileHandler(tmp_path / "log")
    handler.setFormatter(JsonLines())
    handler.addFilter(AddRequestContext())
    root = logging.getLogger()
    root.addHandler(handler)
    yield tmp_path / "log"
    root.removeHandler(handler)
    handler.close()


def test_uncaught_error_is_logged_with_its_traceback_and_ids(tmp_path: Path, json_log: Path) -> None:
    """One log line has the request id of the response with status 500, and nothing that the caller sent."""
    router = APIRouter()

    @router.get("/fail")
    async def fail(word: str) -> None:
        raise ValueError(f"no {word}")

    with serve_app(make_settings(tmp_path), router) as app:
        response = app.http.get("/fail", params={"word": "Canary"})
        assert (response.status_code, response.json()["code"]) == (500, "internal")
        request_id = response.headers["x-request-id"]
        deadline = time.monotonic() + 60
        while "exception" not in (log := json_log.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    (line,) = [line for line in map(json.loads, log.splitlines()) if "exception" in line]
    assert line["request_id"] == request_id
    assert line["level"] == "ERROR"
    assert "in fail\n" in line["exception"] and line["exception"].endswith("ValueError")
    assert "Canary" not in json_log.read_text()


def test_errors_of_the_event_loop_are_logged_without_values(json_log: Path) -> None:
    """asyncio itself would log the task, and with it the text of the error."""
    text = "Task exception was never retrieved"
    context = {"message": text, "exception": ValueError("Canary"), "task": "Canary"}
    with closing(asyncio.new_event_loop()) as loop:
        loop_failed(loop, context)
    (line,) = map(json.loads, json_log.read_text().splitlines())
    assert line["message"] == text
    assert line["exception"].endswith("ValueError")
    assert "Canary" not in json_log.read_text()


@pytest.mark.parametrize(
    ("setting", "exit_code", "named"),
    [({"API_KEYS_FILE": "/none"}, 1, "/none"), ({"POOL_SIZE": "many"}, 2, "POOL_SIZE")],
)
def test_failed_start_logs_one_json_line(setting: dict[str, str], exit_code: int, named: str) -> None:
    """The line has the level CRITICAL and names the reason."""
    ended = subprocess.run(
        [sys.executable, "-m", "service"],
        env={
            "PATH": os.environ["PATH"],
            "LOG_FORMAT": "JSON",
            "HOST": "127.0.0.1",
            "PORT": "1",
            **setting,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == exit_code
    assert ended.stdout == ""
    (line,) = [json.loads(line) for line in ended.stderr.splitlines()]
    assert line["level"] == "CRITICAL" and named in line["message"]


def test_uncaught_error_of_a_thread_is_logged(json_log: Path) -> None:
    """The line has the level CRITICAL and the traceback."""
    hook, threading.excepthook = threading.excepthook, _uncaught_in_thread
    try:
        thread = threading.Thread(target=failing)
        thread.start()
        thread.join()
    finally:
        threading.excepthook = hook
    (line,) = map(json.loads, json_log.read_text().splitlines())
    assert line["level"] == "CRITICAL" and line["exception"].endswith("ValueError")
