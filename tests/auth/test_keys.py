"""Tests of two keys on a running service: for one owner, the data of the other does not exist.

The tests call every route with every method. They take the routes from the application, so that a new
route cannot be forgotten.
"""

import itertools
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute

from service.app import PAGES, create_app
from service.auth.keyring import digest
from service.http.guard import ALWAYS_OPEN
from service.lifespan import lifespan
from service.mcp import endpoint as mcp
from service.server import ROUTERS
from tests.conftest import GENEROUS
from tests.routes.files_support import serve_app
from tests.support.api import Api, Body, problem
from tests.support.keys import KeyedService, key_command, make_key
from tests.support.process import ROOT, Service
from tests.support.session import Session, live_sessions, new_session, open_session
from tests.support.settings import make_settings

pytestmark = pytest.mark.timeout(120)

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ENV_KEY = "key-of-carol-in-the-environment:with:colons"
PATH = "kept/file.txt"
OPEN = ALWAYS_OPEN.union(*PAGES.values())

CALLS: dict[tuple[str, str], dict[str, Any]] = {
    ("GET", "/v1/files/{file_id}"): {},
    ("HEAD", "/v1/files/{file_id}"): {},
    ("GET", "/v1/sessions/{session_id}/files"): {},
    ("GET", "/v1/sessions/{session_id}/files/{path}"): {},
    ("HEAD", "/v1/sessions/{session_id}/files/{path}"): {},
    ("PUT", "/v1/sessions/{session_id}/files/{path}"): {"content": b"written"},
    ("PATCH", "/v1/sessions/{session_id}/files/{path}"): {"json": {"path": "moved.txt"}},
    ("GET", "/v1/sessions/{session_id}"): {},
    ("PATCH", "/v1/sessions/{session_id}"): {"json": {"ttl_seconds": 600}},
    ("POST", "/v1/sessions/{session_id}/execute"): {"json": {"code": "print(secret)"}},
    ("POST", "/v1/sessions/{session_id}/execute/stream"): {"json": {"code": "print(secret)"}},
    ("POST", "/v1/sessions/{session_id}/input"): {"json": {"value": "x"}},
    ("POST", "/v1/sessions/{session_id}/bash"): {"json": {"cmd": "cat kept/*"}},
    ("POST", "/v1/sessions/{session_id}/complete"): {"json": {"code": "secr"}},
    ("POST", "/v1/sessions/{session_id}/inspect"): {"json": {"code": "secret"}},
    ("POST", "/v1/sessions/{session_id}/interrupt"): {},
    ("GET", "/v1/sessions/{session_id}/cells"): {},
    ("GET", "/v1/sessions/{session_id}/cells/{cell_id}"): {},
    ("GET", "/v1/sessions/{session_id}/notebook"): {},
    ("GET", "/v1/executions/{execution_id}"): {},
    ("POST", "/v1/sessions/{session_id}/restart"): {},
    ("GET", "/api/kernelspecs/{name}"): {},
    ("GET", "/api/kernels/{kernel_id}"): {},
    ("POST", "/api/kernels/{kernel_id}/interrupt"): {},
    ("POST", "/api/kernels/{kernel_id}/restart"): {},
    ("DELETE", "/v1/sessions/{session_id}/files/{path}"): {},
    ("DELETE", "/v1/sessions/{session_id}"): {},
    ("DELETE", "/v1/files/{file_id}"): {},
    ("DELETE", "/api/kernels/{kernel_id}"): {},
}
"""Arguments of a valid call of each route with an id, in an order in which the owner can make all calls."""

HEADERS = ({"Range": "bytes=0-3"}, {"If-None-Match": "*"}, {"Accept": "text/event-stream"})
BAD_BODY = {"content": b"{", "headers": {"Content-Type": "application/json"}}

NAMING = {
    ("POST", "/v1/execute"),
    ("POST", "/v1/execute/stream"),
    ("POST", "/v1/sessions"),
    ("POST", "/v1/sessions/{session_id}/execute"),
    ("POST", "/v1/sessions/{session_id}/execute/stream"),
}
"""The calls whose bodies may name files or sessions."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The application as the command makes it. It is not served: tests read its routes and its document."""
    settings = make_settings(tmp_path_factory.mktemp("app"), api_keys="alice:x")
    return create_app(settings, lifespan, ROUTERS)


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Return the method and path of every route, with `{path}` for `{path:path}`."""
    found = set()
    for path, operations in app.openapi()["paths"].items():
        found |= {(method.upper(), path) for method in operations}
    return found


@pytest.fixture(scope="module")
def keyed(
    open_service: Callable[..., Service],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[KeyedService]:
    """A service with keys in `API_KEYS` and in a file, and the most detailed log."""
    file = tmp_path_factory.mktemp("keyed") / "keys"
    make_key(file, "unused")
    service = open_service(
        **GENEROUS,
        API_KEYS=f"carol:{ENV_KEY}",
        API_KEYS_FILE=file,
        KEY_REQUESTS_PER_MINUTE=0,
        LOG_LEVEL="DEBUG",
    )
    keyed = KeyedService(service, file)
    yield keyed
    keyed.close()
    service.finish()


def path_ids(file_id: str, session_id: str, cell_id: str) -> dict[str, str]:
    """Return ids by the names of path parameters.

    The id of a session is also that of a kernel and a kernelspec. A cell has the id of its execution.
    """
    return {
        "file_id": file_id,
        "name": f"session-{session_id}",
        "session_id": session_id,
        "kernel_id": session_id,
        "cell_id": cell_id,
        "execution_id": cell_id,
    }


def lasting(response: httpx.Response) -> dict[str, str]:
    """Return the headers of a response, without those that differ between equal requests."""
    return {name: value for name, value in response.headers.items() if name not in ("date", "x-request-id")}


@dataclass(frozen=True)
class Things:
    """A file, a session and a cell of one key. A secret is in the content of each."""

    file_id: str
    session: Session
    cell_id: str
    secret: str

    @property
    def ids(self) -> dict[str, str]:
        """Return the ids by the names of path parameters."""
        return path_ids(self.file_id, self.session.id, self.cell_id)

    def unchanged(self) -> dict[str, Any]:
        """Return everything that another caller might have changed."""
        described = self.session.describe()
        return {
            "described": {name: value for name, value in described.items() if name != "last_used_at"},
            "file": self.session.api.download(self.file_id),
            "files": self.session.files(),
            "cells": self.session.cells(),
        }


def make_things(keyed: KeyedService, name: str) -> Things:
    """Make a file, and a session with a file, a variable and a cell."""
    api, secret = keyed.api(name), f"secret-of-{name}-{uuid.uuid4().hex}"
    session = open_session(keyed.service, api)
    cell = session.run(f"secret = {secret!r}; import os; os.mkdir('kept'); open('{PATH}', 'w').write(secret)")
    return Things(api.upload(secret.encode(), f"{secret}.txt"), session, cell["cell_id"], secret)


@pytest.fixture(scope="module")
def alices(keyed: KeyedService) -> Iterator[Things]:
    """A file, a session and a cell of alice."""
    things = make_things(keyed, "alice")
    yield things
    things.session.delete()


def filled(path: str, ids: dict[str, str]) -> str:
    """Return the path of a route with the ids filled in."""
    return path.format(path=PATH, **ids)


def shown(response: httpx.Response, ids: dict[str, str]) -> tuple[int, dict[str, str], str]:
    """Return status, headers and body of a response, without the time and the given ids."""
    headers = lasting(response)
    text = response.text
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>")
    return response.status_code, headers, text


# Every route, every method ---------------------------------------------------------------------


def test_every_route_with_an_id_is_tested(app: FastAPI) -> None:
    """A new route must be added to `CALLS`. If its body names files or sessions, it must be in `NAMING`."""
    assert {route for route in routes(app) if "{" in route[1]} == set(CALLS)
    schemas = app.openapi()["components"]["schemas"]

    def names_things(schema: object) -> bool:
        text = json.dumps(schema)
        found = '"file_id"' in text or '"session_id"' in text
        return found or any(names_things(schemas[name]) for name in re.findall(r"schemas/(\w+)\"", text))

    naming = set()
    for method, path in routes(app):
        body = app.openapi()["paths"][path][method.lower()].get("requestBody")
        if body is not None and names_things(body):
            naming.add((method, path))
    assert naming == NAMING


def test_id_of_another_owner_is_an_unknown_id(app: FastAPI, keyed: KeyedService, alices: Things) -> None:
    """Status, headers and body are the same, with every method, several headers, and an invalid body."""
    bob = keyed.api("bob")
    ended = open_session(keyed.service, keyed.api("alice"))
    ended_cell = ended.run("1")["cell_id"]
    ended.delete()
    deleted = keyed.api("alice").upload(b"x")
    keyed.api("alice").http.delete(f"/v1/files/{deleted}")
    gone = path_ids(deleted, ended.id, ended_cell)
    unknown = path_ids(str(uuid.uuid4()), str(uuid.uuid4()), uuid.uuid4().hex)
    before = alices.unchanged()

    refusals: dict[str, int] = {}
    for path in sorted({path for _, path in CALLS}):
        for verb in VERBS:
            call = CALLS.get((verb, path), {})
            variants: list[dict[str, Any]] = [call, BAD_BODY, *(call | {"headers": each} for each in HEADERS)]
            for variant in variants:
                answers = [
                    shown(bob.http.request(verb, filled(path, ids), **variant), ids)
                    for ids in (unknown, alices.ids, gone)
                ]
                assert answers[0] == answers[1] == answers[2], (verb, path)
                assert answers[0][0] in (404, 405, 422), (verb, path, answers[0])
            if (verb, path) in CALLS:
                refusals[path] = bob.http.request(verb, filled(path, alices.ids), **call).status_code
    assert set(refusals.values()) == {404}
    assert alices.unchanged() == before


def test_own_session_gives_no_access_to_other_cells_and_files(keyed: KeyedService, alices: Things) -> None:
    """Neither a cell nor a workspace file of another owner is found in the caller's own session."""
    with new_session(keyed.service, keyed.api("bob")) as own:
        answers = [
            shown(own.call("GET", f"/cells/{cell_id}"), {"cell_id": cell_id})
            for cell_id in (uuid.uuid4().hex, alices.cell_id)
        ]
        assert answers[0] == answers[1]
        assert answers[0][0] == 404
        assert own.file("GET", PATH).status_code == 404


def naming_calls(file_id: str, session_id: str, own: str) -> Iterator[tuple[str, str, Body]]:
    """Yield the calls of `NAMING` with bodies that name the file or the session."""
    files = [{"path": "taken.txt", "file_id": file_id}]
    run = {"code": "print(open('taken.txt').read())"}
    for method, path in sorted(NAMING):
        body = {} if path == "/v1/sessions" else run
        yield method, path.format(session_id=own), body | {"files": files}
    for path in ("/v1/execute", "/v1/execute/stream"):
        yield "POST", path, {"code": "print(secret)", "session_id": session_id}
        yield "POST", path, run | {"session_id": own, "files": files}


def test_body_cannot_name_files_or_sessions_of_another_owner(keyed: KeyedService, alices: Things) -> None:
    """The response is the same as for unknown ids. No code runs and no session is opened."""
    bob, before = keyed.api("bob"), alices.unchanged()
    unknown = (str(uuid.uuid4()), str(uuid.uuid4()))
    with new_session(keyed.service, bob) as own:
        theirs = naming_calls(alices.file_id, alices.session.id, own.id)
        for (method, path, body), (_, _, other) in zip(theirs, naming_calls(*unknown, own.id), strict=True):
            answers = [
                shown(bob.http.request(method, path, json=each), {"file_id": ids[0], "session_id": ids[1]})
                for each, ids in ((body, (alices.file_id, alices.session.id)), (other, unknown))
            ]
            assert answers[0] == answers[1], path
            assert answers[0][0] == 404, path
        assert own.cells() == []
        assert live_sessions(bob) == [own.id]
    assert alices.unchanged() == before


def test_lists_show_only_what_the_caller_owns(app: FastAPI, keyed: KeyedService, alices: Things) -> None:
    """Responses to calls without an id contain nothing of alice, even with her cursor. Her own lists do."""
    bob = keyed.api("bob")
    own = bob.upload(b"bob's")
    cursor = keyed.api("alice").http.get("/v1/files", params={"limit": 1}).json()["next"]
    hers = {*alices.ids.values(), alices.secret, digest(alices.secret).hex()}
    plain = {path for method, path in routes(app) if method == "GET" and "{" not in path} | OPEN
    assert {"/v1/files", "/v1/sessions", "/health", "/ready"} <= plain
    for path in sorted(plain):
        for params in ({}, {"limit": 1000}, {"after": cursor} if cursor else {}):
            text = bob.http.get(path, params=params).text
            assert not [thing for thing in hers if thing in text], path
    assert [file["file_id"] for file in bob.http.get("/v1/files").json()["files"]] == [own]
    assert alices.session.id in live_sessions(keyed.api("alice"))
    assert alices.file_id in keyed.api("alice").http.get("/v1/files").text


def test_owner_can_call_every_route(keyed: KeyedService) -> None:
    """The calls of `CALLS` succeed with the key of the owner, so the other tests fail for the key alone."""
    things = make_things(keyed, "dora")
    api = keyed.api("dora")
    for (method, path), call in CALLS.items():
        if path.endswith("/files/{path}") and method == "DELETE":
            things.session.put(PATH, b"put back")
        ids = things.ids
        if path.startswith("/api/kernels/") and method == "DELETE":
            ids["kernel_id"] = open_session(keyed.service, api).id
        response = api.http.request(method, filled(path, ids), **call)
        expected = {409} if path.endswith("/input") else {200, 201, 204}
        assert response.status_code in expected, (method, path, response.text)
        if path.endswith(("/execute", "/execute/stream")):
            assert things.secret in response.text
    for file_id in (file["file_id"] for file in api.http.get("/v1/files").json()["files"]):
        assert file_id != things.file_id


def owner_of(service: Service, execution_id: str) -> str:
    """Return the owner of an execution. Its row may be written shortly after the response."""
    deadline = time.monotonic() + 60
    with closing(sqlite3.connect(service.storage / "registry.sqlite3")) as registry:
        while True:
            query = "SELECT owner FROM executions WHERE execution_id = ?"
            found = registry.execute(query, (execution_id,)).fetchone()
            if found is not None:
                return str(found[0])
            assert time.monotonic() < deadline, "the execution is not in the registry"
            time.sleep(0.05)


def test_output_files_belong_to_the_caller(keyed: KeyedService) -> None:
    """Files and images of one-shot, streamed and session executions are available to the same key only."""
    alice, bob = keyed.api("alice"), keyed.api("bob")
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    code = (
        f"open('made.txt', 'w').write('made')\ndisplay({{'image/png': '{png}', 'text/plain': ''}}, raw=True)"
    )
    results = [alice.run(code), alice.stream(code)[-1].data]
    with new_session(keyed.service, alice) as session:
        results.append(session.run(code))
    for result in results:
        ids = [file["file_id"] for file in result["files"]]
        ids.append(result["outputs"][0]["metadata"]["image/png"]["file_id"])
        assert len(ids) == 2
        assert owner_of(keyed.service, result["execution_id"]) == "alice"
        for file_id in ids:
            assert bob.http.get(f"/v1/files/{file_id}").status_code == 404
            assert bob.http.delete(f"/v1/files/{file_id}").status_code == 404
            assert alice.download(file_id)


# Sending a key ---------------------------------------------------------------------------------


def test_every_path_answers_401_without_a_key(app: FastAPI, keyed: KeyedService, alices: Things) -> None:
    """The response is the same for every path with every method, also for paths that do not exist."""
    key = keyed.key("alice")
    paths = {filled(path, alices.ids) for _, path in routes(app)} - OPEN
    paths |= {
        "/page",
        "/page/",
        "/page/nothing.js",
        "/nothing",
        "/v1",
        "/health/",
        "/docs/",
        "/docs/oauth2-redirect",
        "/v1/files/",
        "/health//",
    }
    refused: list[tuple[str, dict[str, Any]]] = [
        ("key_missing", {}),
        ("key_missing", {"params": {"api_key": key, "key": key, "X-API-Key": key}}),
        ("key_missing", {"headers": {"X-API-Key": "", "Authorization": "Bearer"}}),
        ("key_invalid", {"headers": {"X-API-Key": "wrong"}}),
    ]
    shapes: dict[str, set[str]] = {"key_missing": set(), "key_invalid": set()}
    with httpx.Client(base_url=keyed.service.base_url, timeout=30) as stranger:
        for path, verb in itertools.product(sorted(paths), VERBS):
            for code, options in refused:
                response = stranger.request(verb, path, **options)
                assert response.status_code == 401, (verb, path)
                if verb == "HEAD":
                    assert response.content == b""
                    continue
                assert problem(response)["code"] == code, (verb, path)
                shapes[code].add(f"{lasting(response)} {response.text}")
    assert {code: len(answers) for code, answers in shapes.items()} == {"key_missing": 1, "key_invalid": 1}
    assert 'Bearer realm="code-interpreter"' in shapes["key_missing"].pop()
    assert 'error="invalid_token"' in shapes["key_invalid"].pop()


def answered(service: Service, *headers: tuple[str, str | bytes], path: str = "/v1/files") -> Any:
    """Send a request with these headers, unchanged. Return 200, or the error code of the response."""
    pairs = [
        (name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers
    ]
    response = httpx.get(service.base_url + path, headers=httpx.Headers(pairs), timeout=30)
    return response.status_code if response.status_code == 200 else problem(response)["code"]


def test_key_is_accepted_in_two_headers_only(keyed: KeyedService) -> None:
    """The key may be repeated. Different keys, parts, other spellings and hashes of a key are invalid."""
    alice, bob = keyed.key("alice"), keyed.key("bob")
    x, bearer = "X-API-Key", "Authorization"
    for expected, headers in (
        (200, [(x, alice)]),
        (200, [(bearer, f"Bearer {alice}")]),
        (200, [(bearer, f"bEARER   {alice}")]),
        (200, [(x, ENV_KEY)]),
        (200, [(x, alice), (x, alice), (bearer, f"Bearer {alice}")]),
        (200, [(bearer, "Basic YTpi"), (x, alice)]),
        (200, [(x, ""), (bearer, f"Bearer {alice}")]),
        ("key_invalid", [(x, alice), (x, bob)]),
        ("key_invalid", [(x, alice), (bearer, f"Bearer {bob}")]),
        ("key_invalid", [(x, alice), (bearer, "Bearer wrong")]),
        ("key_invalid", [(x, f"{alice}, {alice}")]),
        ("key_invalid", [(x, alice.swapcase())]),
        ("key_invalid", [(x, alice[:-1])]),
        ("key_invalid", [(x, alice + "x")]),
        ("key_invalid", [(x, f"Bearer {alice}")]),
        ("key_invalid", [(x, "alice")]),
        ("key_invalid", [(x, digest(alice).hex())]),
        ("key_invalid", [(x, f"sha256:{digest(alice).hex()}")]),
        ("key_invalid", [(x, b"\xff\xfe\xc3\xa9")]),
        ("key_invalid", [(x, "k" * 30_000)]),
        ("key_missing", [(bearer, "Basic YTpi")]),
        ("key_missing", [(bearer, alice)]),
        ("key_missing", [("Cookie", f"X-API-Key={alice}")]),
        ("key_missing", [("X-API-Key-", alice)]),
    ):
        assert answered(keyed.service, *headers) == expected, headers


def test_request_body_is_not_read_without_a_key(keyed: KeyedService) -> None:
    """The service answers before the first byte of an upload, and sends no `100 Continue`."""
    host, port = keyed.service.base_url.removeprefix("http://").split(":")
    request = (
        "POST /v1/files HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 10000000000\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_example_client_sends_the_key(keyed: KeyedService, tmp_path: Path) -> None:
    """The client of the folder `examples` works on a service with keys."""
    (tmp_path / "data.txt").write_text("sent")
    code = (
        "import pathlib, sys, client\n"
        "there = client.Client(sys.argv[1], sys.argv[2])\n"
        "print(there.download(there.upload(pathlib.Path(sys.argv[3]))).decode())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, keyed.service.base_url, keyed.key("bob"), str(tmp_path / "data.txt")],
        cwd=ROOT / "examples",
        env={"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == ("sent\n", "")


def test_open_paths_need_no_key(keyed: KeyedService) -> None:
    """Probes and, unless it is closed, the documentation answer without a key and with a wrong key."""
    for path in ("/health", "/ready", "/docs", "/redoc", "/openapi.json"):
        assert answered(keyed.service, path=path) == 200
        assert answered(keyed.service, ("X-API-Key", "wrong"), path=path) == 200


def test_openapi_document_says_where_a_key_is_needed(app: FastAPI) -> None:
    """The document has two ways to send the key, for all paths except the open ones."""
    document = app.openapi()
    assert document["security"] == [{"bearer": []}, {"header": []}]
    schemes = document["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert (schemes["header"]["in"], schemes["header"]["name"]) == ("header", "X-API-Key")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert (operation.get("security") == []) == (path in OPEN), path
            assert ({"401", "429"} <= set(operation["responses"])) == (path not in OPEN), path


def test_openapi_document_has_every_route(app: FastAPI) -> None:
    """The document, from which the tests take the routes, has all routes but those of MCP and WebSockets.

    MCP and WebSockets have tests of their own.
    """
    shown = {path for _, path in routes(app)} | OPEN
    of_this = [route for router in ROUTERS if router is not mcp.router for route in router.routes]
    every = {route.path for route in of_this if isinstance(route, APIRoute) and route.include_in_schema}
    assert len(every) > 10
    assert {re.sub(r":\w+}", "}", path) for path in every} <= shown
    (socket,) = [r for r in of_this if not (isinstance(r, APIRoute) and r.include_in_schema)]
    # OpenAPI does not describe WebSockets.
    assert isinstance(socket, APIWebSocketRoute)
    assert socket.path == "/api/kernels/{kernel_id}/channels"


# Changes of the key file -----------------------------------------------------------------------


def test_new_key_of_a_name_gets_the_data_of_the_old_key(keyed: KeyedService) -> None:
    """A replaced or removed key is refused from the next request on. The session and the file are kept."""
    things = make_things(keyed, "eve")
    api = keyed.api("eve")
    with api.open_stream("import time\nfor _ in range(8): print(1, flush=True); time.sleep(0.2)") as events:
        next(events)
        second = make_key(keyed.file, "eve", "replace")
        assert problem(api.http.get("/v1/files"))["code"] == "key_invalid"
        assert [event.type for event in events][-1] == "result"
    for path, call in (("", {}), ("/execute", {"json": {"code": "1"}})):
        method = "POST" if call else "GET"
        assert problem(things.session.call(method, path, **call))["code"] == "key_invalid"
    assert key_command(keyed.file, "remove", "eve").returncode == 0
    assert answered(keyed.service, ("X-API-Key", second)) == "key_invalid"
    third = Api(keyed.service.base_url, make_key(keyed.file, "eve"))
    session = Session(keyed.service, things.session.created, third)
    assert session.printed("print(secret)") == things.secret
    assert third.download(things.file_id).decode() == things.secret
    session.delete()
    third.close()


def test_keys_stay_valid_while_the_key_file_is_invalid(keyed: KeyedService) -> None:
    """The log has one error, which does not repeat the invalid line."""
    api, good = keyed.api("alice"), keyed.file.read_text()
    keyed.file.write_text(good + "mallory:hunter2\n")
    try:
        for _ in range(3):
            assert api.http.get("/v1/files").status_code == 200
        assert answered(keyed.service, ("X-API-Key", "hunter2")) == "key_invalid"
    finally:
        keyed.file.write_text(good)
    assert api.http.get("/v1/files").status_code == 200
    log = keyed.service.log_path.read_text()
    assert len(re.findall(r"ERROR service.auth.keyring API_KEYS_FILE=.* line \d+ is not", log)) == 1
    assert "hunter2" not in log


def test_no_key_is_in_the_log_or_the_registry(keyed: KeyedService, alices: Things) -> None:
    """Neither a key nor its hash is written, even at the level DEBUG. The log has the names of the keys."""
    api = keyed.api("alice")
    api.http.get(
        "/v1/files", params={"key": keyed.key("alice")}, headers={"Authorization": "Bearer wrong-key"}
    )
    api.http.get("/v1/files")
    for headers in ([("X-API-Key", ENV_KEY)], [("Authorization", f"Bearer {ENV_KEY}")]):
        assert answered(keyed.service, *headers) == 200
    written = keyed.service.log_path.read_bytes()
    for path in keyed.service.storage.rglob("*"):
        if path.is_file():
            written += path.read_bytes()
    assert re.search(rb'service.http.server.access_log \S+ alice "GET /v1/files" 200', written)
    assert re.search(rb'service.http.server.access_log \S+ - "GET /v1/files" 401', written)
    assert b"wrong-key" not in written
    for key in (*keyed.every_key(), ENV_KEY):
        assert key.encode() not in written
        assert digest(key).hex().encode() not in written
        assert digest(key) not in written


# Without keys, and the change to keys ----------------------------------------------------------


def test_service_without_keys_warns_and_ignores_keys(service: Service) -> None:
    """All callers have the same files, with any key or none. The log has a warning."""
    assert re.search(r" WARNING \S+ No API keys are set: ", service.log_path.read_text())
    file_id = service.api.upload(b"shared")
    for headers in ({"X-API-Key": "one"}, {"Authorization": "Bearer two"}, {}):
        response = httpx.get(f"{service.base_url}/v1/files/{file_id}", headers=headers)
        assert response.content == b"shared"
    assert "security" not in service.api.http.get("/openapi.json").json()


def test_closed_pages_do_not_exist_without_keys(tmp_path: Path) -> None:
    """The response is the same as for a path that does not exist."""
    with serve_app(make_settings(tmp_path, open_pages=())) as running:
        nothing = running.http.get("/nothing")
        for path in ("/docs", "/redoc", "/openapi.json", "/metrics", "/", "/page/app.js"):
            response = running.http.get(path)
            assert (response.status_code, response.json()) == (404, nothing.json())
        assert running.http.get("/v1/files").status_code == 200


def test_key_named_default_owns_what_was_made_without_keys(
    start_service: Callable[..., Service], tmp_path: Path
) -> None:
    """Other keys do not find the file and the live session. Without keys, every caller finds them again."""
    service = start_service(POOL_SIZE=1)
    session = open_session(service)
    session.run("x = 42")
    file_id = service.api.upload(b"old")

    service.stop()
    service.restart(API_KEYS="default:key-of-default-key,alice:key-of-alice-alice")
    with ExitStack() as stack:
        default, alice = (
            stack.enter_context(Api(service.base_url, key).http)
            for key in ("key-of-default-key", "key-of-alice-alice")
        )
        assert default.get(f"/v1/files/{file_id}").content == b"old"
        assert default.post(f"{session.url}/execute", json={"code": "x"}).json()["stdout"] == "42\n"
        for path in (f"/v1/files/{file_id}", session.url, f"{session.url}/cells"):
            assert alice.get(path).status_code == 404
        assert alice.get("/v1/sessions").json() == {"sessions": []}
        hers = alice.post("/v1/files", files={"file": ("new", b"new")}).json()["file_id"]
        mine = alice.post("/v1/sessions", json={}).json()["session_id"]
        alice.post(f"/v1/sessions/{mine}/execute", json={"code": "y = 7"})

    service.crash()
    service.restart(API_KEYS="")
    assert live_sessions(service.api) == [session.id]
    assert service.api.download(file_id) == b"old"
    assert service.api.http.get(f"/v1/files/{hers}").status_code == 404
    assert session.printed("print(x)") == "42"
    session.delete()

    service.stop()
    service.restart(API_KEYS="alice:key-of-alice-alice")
    with Api(service.base_url, "key-of-alice-alice").http as alice:
        assert alice.get(f"/v1/files/{hers}").content == b"new"
        assert alice.post(f"/v1/sessions/{mine}/execute", json={"code": "y"}).json()["stdout"] == "7\n"
        assert alice.delete(f"/v1/sessions/{mine}").status_code == 204


def test_unusable_key_file_stops_the_start(tmp_path: Path) -> None:
    """The service prints one line and exits with 1, or with 2 for invalid `API_KEYS`. No key is shown."""
    for status, sentence, variables in (
        (1, f"API_KEYS_FILE={tmp_path}/nothing cannot be used", {"API_KEYS_FILE": f"{tmp_path}/nothing"}),
        (2, "API_KEYS: entry 2 is not NAME:KEY", {"API_KEYS": "alice:hunter2,hunter2"}),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "FILE_STORAGE_DIR": str(tmp_path), **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == status, ended.stderr
        assert ended.stderr.startswith(sentence)
        assert len(ended.stderr.splitlines()) == 1
        assert "hunter2" not in ended.stderr
