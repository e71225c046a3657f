"""Tests of two keys on a running service: for one owner, the data of the other does not exist.

The tests call every route with every method. They take the routes from the application, so that a new
route cannot be forgotten.
"""

import json
import re
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.auth.keyring import digest
from tests.auth.belongings import (
    CALLS,
    OPEN,
    PATH,
    VERBS,
    Things,
    filled,
    lasting,
    make_things,
    path_ids,
    routes,
)
from tests.support.api import Body
from tests.support.keys import KeyedService
from tests.support.process import Service
from tests.support.session import live_sessions, new_session, open_session

pytestmark = pytest.mark.timeout(120)

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


def shown(response: httpx.Response, ids: dict[str, str]) -> tuple[int, dict[str, str], str]:
    """Return status, headers and body of a response, without the time and the given ids."""
    headers = lasting(response)
    text = response.text
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>")
    return response.status_code, headers, text


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
        alices_calls = naming_calls(alices.file_id, alices.session.id, own.id)
        for (method, path, body), (_, _, other) in zip(
            alices_calls, naming_calls(*unknown, own.id), strict=True
        ):
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
    frank = keyed.api("frank")
    own = frank.upload(b"frank's")
    cursor = keyed.api("alice").http.get("/v1/files", params={"limit": 1}).json()["next"]
    alices_texts = {*alices.ids.values(), alices.secret, digest(alices.secret).hex()}
    plain = {path for method, path in routes(app) if method == "GET" and "{" not in path} | OPEN
    assert {"/v1/files", "/v1/sessions", "/health", "/ready"} <= plain
    for path in sorted(plain):
        for params in ({}, {"limit": 1000}, {"after": cursor} if cursor else {}):
            text = frank.http.get(path, params=params).text
            assert not [thing for thing in alices_texts if thing in text], path
    assert [file["file_id"] for file in frank.http.get("/v1/files").json()["files"]] == [own]
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
