"""Two keys on a real service: what is one's does not exist for the other, on every route with every verb.

The routes are taken from the application itself, so that a new one can't be forgotten.
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
"""How to call each route with an id, in an order in which the owner can call all of them."""

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
    """The application as the command makes it, not served: for its routes and its document."""
    settings = make_settings(tmp_path_factory.mktemp("app"), api_keys="alice:x")
    return create_app(settings, lifespan, ROUTERS)


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Method and path of every route, `{path:path}` as `{path}`."""
    found = set()
    for path, operations in app.openapi()["paths"].items():
        found |= {(method.upper(), path) for method in operations}
    return found


@pytest.fixture(scope="module")
def keyed(
    open_service: Callable[..., Service],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[KeyedService]:
    """A service with keys of both kinds, which logs as much as it can."""
    file = tmp_path_factory.mktemp("keyed") / "keys"
    make_key(file, "somebody")
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
    """Ids by the names of the parameters of paths.

    A session is a kernel and a kernelspec, too, and a cell has the id of its execution.
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
    """The headers of an answer but those that are new each time."""
    return {name: value for name, value in response.headers.items() if name not in ("date", "x-request-id")}


@dataclass(frozen=True)
class Things:
    """What one key has: ids, and the secret that is in all of it."""

    file_id: str
    session: Session
    cell_id: str
    secret: str

    @property
    def ids(self) -> dict[str, str]:
        """Ids by the names of the parameters of paths."""
        return path_ids(self.file_id, self.session.id, self.cell_id)

    def unchanged(self) -> dict[str, Any]:
        """All that somebody else could have changed."""
        described = self.session.describe()
        return {
            "described": {name: value for name, value in described.items() if name != "last_used_at"},
            "file": self.session.api.download(self.file_id),
            "files": self.session.files(),
            "cells": self.session.cells(),
        }


def make_things(keyed: KeyedService, name: str) -> Things:
    """A file, a session with a file, a variable and a cell."""
    api, secret = keyed.api(name), f"secret-of-{name}-{uuid.uuid4().hex}"
    session = open_session(keyed.service, api)
    cell = session.run(f"secret = {secret!r}; import os; os.mkdir('kept'); open('{PATH}', 'w').write(secret)")
    return Things(api.upload(secret.encode(), f"{secret}.txt"), session, cell["cell_id"], secret)


@pytest.fixture(scope="module")
def alices(keyed: KeyedService) -> Iterator[Things]:
    """What alice has."""
    things = make_things(keyed, "alice")
    yield things
    things.session.delete()


def filled(path: str, ids: dict[str, str]) -> str:
    """A route's path with ids in it."""
    return path.format(path=PATH, **ids)


def shown(response: httpx.Response, ids: dict[str, str]) -> tuple[int, dict[str, str], str]:
    """All of an answer but the time and the ids it was asked about."""
    headers = lasting(response)
    text = response.text
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>")
    return response.status_code, headers, text


# Every route, every verb -----------------------------------------------------------------------


def test_every_route_with_an_id_is_crossed(app: FastAPI) -> None:
    """A new route has to be put into `CALLS`, and one whose body names things into `NAMING`."""
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


def test_someone_elses_id_is_an_unknown_one(app: FastAPI, keyed: KeyedService, alices: Things) -> None:
    """Same status, headers and body but for the id, with every verb, with any header and a bad body too."""
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


def test_an_own_session_does_not_lend_its_id(keyed: KeyedService, alices: Things) -> None:
    """Neither to another's cell nor to another's file in a session."""
    with new_session(keyed.service, keyed.api("bob")) as own:
        answers = [
            shown(own.call("GET", f"/cells/{cell_id}"), {"cell_id": cell_id})
            for cell_id in (uuid.uuid4().hex, alices.cell_id)
        ]
        assert answers[0] == answers[1]
        assert answers[0][0] == 404
        assert own.file("GET", PATH).status_code == 404


def naming_calls(file_id: str, session_id: str, own: str) -> Iterator[tuple[str, str, Body]]:
    """Every call of `NAMING` with a body that names the file, and those that name the session."""
    files = [{"path": "taken.txt", "file_id": file_id}]
    run = {"code": "print(open('taken.txt').read())"}
    for method, path in sorted(NAMING):
        body = {} if path == "/v1/sessions" else run
        yield method, path.format(session_id=own), body | {"files": files}
    for path in ("/v1/execute", "/v1/execute/stream"):
        yield "POST", path, {"code": "print(secret)", "session_id": session_id}
        yield "POST", path, run | {"session_id": own, "files": files}


def test_someone_elses_things_cannot_be_named(keyed: KeyedService, alices: Things) -> None:
    """Files and sessions in a body: as unknown; nothing runs and nothing is opened."""
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


def test_lists_have_ones_own_only(app: FastAPI, keyed: KeyedService, alices: Things) -> None:
    """No answer to a call without an id has anything of alice's, with whatever cursor; hers has it all."""
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


def test_the_owner_can_do_all_of_it(keyed: KeyedService) -> None:
    """The same calls with the owner's key are not refused: they were refused for the key alone."""
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
    """Whose an execution is; its row is written while the answer is read."""
    deadline = time.monotonic() + 60
    with closing(sqlite3.connect(service.storage / "registry.sqlite3")) as registry:
        while True:
            query = "SELECT owner FROM executions WHERE execution_id = ?"
            found = registry.execute(query, (execution_id,)).fetchone()
            if found is not None:
                return str(found[0])
            assert time.monotonic() < deadline, "the execution is not in the registry"
            time.sleep(0.05)


def test_what_code_makes_is_its_callers(keyed: KeyedService) -> None:
    """Files and images of executions, streamed and of sessions, with their ids, are for the same key only."""
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


# Coming in -------------------------------------------------------------------------------------


def test_without_a_key_nothing_is_there(app: FastAPI, keyed: KeyedService, alices: Things) -> None:
    """Every path with every verb, and paths that do not exist: one answer, whatever was asked."""
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
    """Status and code of a request with these headers, written as they are."""
    pairs = [
        (name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers
    ]
    response = httpx.get(service.base_url + path, headers=httpx.Headers(pairs), timeout=30)
    return response.status_code if response.status_code == 200 else problem(response)["code"]


def test_a_key_comes_in_one_of_two_headers(keyed: KeyedService) -> None:
    """In any case, once or twice; two that differ, parts, other spellings and hashes of a key are invalid."""
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


def test_a_body_is_not_read_without_a_key(keyed: KeyedService) -> None:
    """The answer comes before the first byte of an upload, and nobody is told to go on."""
    host, port = keyed.service.base_url.removeprefix("http://").split(":")
    request = (
        "POST /v1/files HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 10000000000\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_the_examples_client_sends_a_key(keyed: KeyedService, tmp_path: Path) -> None:
    """What the README's examples are made of works where a key is needed."""
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


def test_health_and_readiness_are_open_to_all(keyed: KeyedService) -> None:
    """With no key or a wrong one; so is the documentation unless it is closed."""
    for path in ("/health", "/ready", "/docs", "/redoc", "/openapi.json"):
        assert answered(keyed.service, path=path) == 200
        assert answered(keyed.service, ("X-API-Key", "wrong"), path=path) == 200


def test_the_document_says_where_a_key_is_needed(app: FastAPI) -> None:
    """Two ways to send it, for all calls but the open ones, which have no refusal for it."""
    document = app.openapi()
    assert document["security"] == [{"bearer": []}, {"header": []}]
    schemes = document["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert (schemes["header"]["in"], schemes["header"]["name"]) == ("header", "X-API-Key")
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert (operation.get("security") == []) == (path in OPEN), path
            assert ({"401", "429"} <= set(operation["responses"])) == (path not in OPEN), path


def test_no_route_is_left_out_of_the_document(app: FastAPI) -> None:
    """What the crossing is driven from is all there is, but other protocols, which have such tests too."""
    shown = {path for _, path in routes(app)} | OPEN
    of_this = [route for router in ROUTERS if router is not mcp.router for route in router.routes]
    every = {route.path for route in of_this if isinstance(route, APIRoute) and route.include_in_schema}
    assert len(every) > 10
    assert {re.sub(r":\w+}", "}", path) for path in every} <= shown
    (socket,) = [r for r in of_this if not (isinstance(r, APIRoute) and r.include_in_schema)]
    # Documents of this kind know no WebSockets.
    assert isinstance(socket, APIWebSocketRoute)
    assert socket.path == "/api/kernels/{kernel_id}/channels"


# Keys that come and go -------------------------------------------------------------------------


def test_a_key_that_ends_leaves_its_things_to_the_next_of_its_name(keyed: KeyedService) -> None:
    """Replaced, removed, added again: refused from the next request on, while session and file live on."""
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


def test_a_key_file_that_breaks_changes_nothing_but_the_log(keyed: KeyedService) -> None:
    """Those who had a key go on; the log has one sentence, and nothing of the bad line."""
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
    """Nor its hash, at the highest level of logging; the log has the names."""
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


# Without keys, and the switch ------------------------------------------------------------------


def test_without_keys_the_start_warns_and_keys_mean_nothing(service: Service) -> None:
    """One tenant: whatever key a caller sends, all see all; and the log says so plainly."""
    assert re.search(r" WARNING \S+ No API keys are set: ", service.log_path.read_text())
    file_id = service.api.upload(b"everybody's")
    for headers in ({"X-API-Key": "one"}, {"Authorization": "Bearer two"}, {}):
        response = httpx.get(f"{service.base_url}/v1/files/{file_id}", headers=headers)
        assert response.content == b"everybody's"
    assert "security" not in service.api.http.get("/openapi.json").json()


def test_closed_pages_are_not_there_without_keys(tmp_path: Path) -> None:
    """There is no key to open them with; the answer is that of any path that does not exist."""
    with serve_app(make_settings(tmp_path, open_pages=())) as running:
        nothing = running.http.get("/nothing")
        for path in ("/docs", "/redoc", "/openapi.json", "/metrics", "/", "/page/app.js"):
            response = running.http.get(path)
            assert (response.status_code, response.json()) == (404, nothing.json())
        assert running.http.get("/v1/files").status_code == 200


def test_what_was_made_before_keys_is_the_key_named_default(
    start_service: Callable[..., Service], tmp_path: Path
) -> None:
    """Its files and its live session; no other key sees them; without keys again, everybody does."""
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


def test_a_key_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    """One sentence with the setting, and exit code 1; bad keys in the environment are 2, and not shown."""
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
