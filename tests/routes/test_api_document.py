"""The OpenAPI document: every field is described, the examples work, errors are listed by their codes."""

import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from service.app import ALL_ANSWERS
from service.gateway.errors import TooManyConnections
from service.http.errors import OriginRefused
from service.http.values import CELL_ID, EXECUTION_ID, FILE_ID, SESSION_ID
from tests.fuzz.document import APPLICATION, DOCUMENT
from tests.support.process import Service

SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
OPERATIONS = sorted(
    ((method, path) for path, operations in DOCUMENT["paths"].items() for method in operations),
    key=lambda operation: (operation[0] == "delete", operation[1]),
)
"""Methods and paths, those that delete last."""
FIELDS = [(model, field) for model, schema in SCHEMAS.items() for field in schema.get("properties", {})]
PATH = "data/sales.csv"
SESSIONS_OPENED = {("post", "/v1/sessions"): "session_id", ("post", "/api/kernels"): "id"}
SESSIONS_OWN = {"/v1/sessions/{session_id}", "/api/kernels/{kernel_id}"}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema together with the components that it refers to."""
    return schema | {"components": DOCUMENT["components"]}


def test_every_call_has_a_short_name_of_its_own() -> None:
    """Generated clients have a method of that name."""
    names = [call["operationId"] for calls in DOCUMENT["paths"].values() for call in calls.values()]
    assert len(set(names)) == len(names)
    assert {"execute", "create_session", "execute_in_session", "run_bash", "upload_file"} <= set(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in names)


@pytest.mark.parametrize(("model", "field"), FIELDS)
def test_every_field_has_a_description_and_valid_examples(model: str, field: str) -> None:
    """The description of a field names its unit, if it has one. The examples match the schema."""
    schema = SCHEMAS[model]["properties"][field]
    assert len(schema.get("description", "")) > 3
    if field.endswith(("_ms", "_bytes", "_seconds")):
        unit = {"ms": "milliseconds", "bytes": "bytes", "seconds": "econds"}[field.rpartition("_")[2]]
        assert unit in schema["description"], schema["description"]
    refers = "$ref" in json.dumps(schema) or "contentSchema" in schema
    assert refers or "examples" in schema
    for example in schema.get("examples", []):
        jsonschema.validate(example, resolved(schema))


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_call_has_a_description_and_error_codes(method: str, path: str) -> None:
    """Parameters have descriptions too. Each error response lists its codes."""
    operation = DOCUMENT["paths"][path][method]
    assert operation["description"].endswith((".", "`"))
    for parameter in operation.get("parameters", []):
        assert parameter["description"], parameter["name"]
    for status, response in operation["responses"].items():
        if int(status) >= 400 and path != "/ready":
            schema = response["content"]["application/json"]["schema"]
            codes = schema["allOf"][1]["properties"]["code"]["enum"]
            assert codes and all(f"`{code}`" in response["description"] for code in codes)


def test_description_names_the_paths_outside_of_openapi() -> None:
    """The page, MCP and the WebSocket are described in the text. Every tag has a description."""
    outside = {"/", "/mcp", "/api/kernels/{kernel_id}/channels"}
    assert outside <= {route.path for route in APPLICATION.state.served} - set(DOCUMENT["paths"])
    for path in outside:
        assert f"**`{path}`**" in DOCUMENT["info"]["description"]
    used = {tag for method, path in OPERATIONS for tag in DOCUMENT["paths"][path][method]["tags"]}
    assert used == {tag["name"] for tag in DOCUMENT["tags"]}


def test_every_error_code_is_listed() -> None:
    """Each error of the service is listed at a call, except errors of keys, WebSockets and MCP."""
    listed = json.dumps(DOCUMENT["paths"])
    general = {"key_missing", "key_invalid", "too_many_requests", "too_many_wrong_keys"}
    # WebSockets and MCP are not part of an OpenAPI document.
    general |= {ALL_ANSWERS[TooManyConnections].code, ALL_ANSWERS[OriginRefused].code}
    for answer in ALL_ANSWERS.values():
        assert answer.code in general or f'"{answer.code}"' in listed, answer.code


@pytest.fixture(scope="module")
def real(service: Service) -> Iterator[dict[str, str]]:
    """Create a file, a session and a cell. Return their ids by the example ids that they replace."""
    http = service.api.http
    stored = http.post("/v1/files", files={"file": ("sales.csv", b"n\n1\n")}).json()["file_id"]
    session = http.post("/v1/sessions", json={}).json()["session_id"]
    cell = http.post(f"/v1/sessions/{session}/execute", json={"code": "2 + 2"}).json()["cell_id"]
    yield {FILE_ID: stored, SESSION_ID: session, CELL_ID: cell, EXECUTION_ID: cell}
    http.delete(f"/v1/sessions/{session}")


def examples(operation: dict[str, Any]) -> list[Any]:
    """Return the example bodies of a call: whole bodies, and one body made of the examples of its fields."""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is None:
        return [None]
    shown = body["schema"]
    shown = shown.get("anyOf", [shown])[0]  # the other type is null
    schema = SCHEMAS[shown["$ref"].rpartition("/")[2]]
    fields = {name: field["examples"][0] for name, field in schema["properties"].items()}
    return [*schema.get("examples", []), fields]


def test_calls_with_bodies_have_example_bodies() -> None:
    """At least ten calls have a body, so that the next test does not miss them."""
    bodies = [DOCUMENT["paths"][path][method].get("requestBody") for method, path in OPERATIONS]
    assert sum(body is not None for body in bodies) >= 10


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_examples_are_answered_as_documented(
    method: str, path: str, service: Service, real: dict[str, str]
) -> None:
    """Each call succeeds with the examples in the document. The response matches its schema."""

    def with_real_ids(text: str) -> str:
        for shown, meant in real.items():
            text = text.replace(shown, meant)
        return text

    operation = DOCUMENT["paths"][path][method]
    url = path
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            url = url.replace(f"{{{parameter['name']}}}", parameter["schema"]["examples"][0])
    if method == "delete" and path in SESSIONS_OWN:
        url = path.partition("{")[0] + service.api.http.post("/v1/sessions", json={}).json()["session_id"]
    url = with_real_ids(url)
    for example in examples(operation):
        prepare(service, url)
        if example is None:
            body = plain_body(operation)
        else:
            body = {"json": json.loads(with_real_ids(json.dumps(example)))}
        response = service.api.http.request(method, url, **body)
        documented = operation["responses"].get(str(response.status_code))
        assert response.is_success and documented is not None, response.text
        check_answer(response, documented)
        if (method, path) in SESSIONS_OPENED:
            service.api.http.delete(f"{path}/{response.json()[SESSIONS_OPENED[method, path]]}")


def plain_body(operation: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a call that takes bytes or no body."""
    content = operation.get("requestBody", {}).get("content", {})
    if "multipart/form-data" in content:
        return {"files": {"file": ("a.txt", b"text")}}
    return {"content": b"n\n1\n"} if "application/octet-stream" in content else {}


def prepare(service: Service, url: str) -> None:
    """Bring the session into the state that the call at `url` needs."""
    session, _, rest = url.removeprefix("/v1/sessions/").partition("/")
    if rest == f"files/{PATH}":
        service.api.http.put(url, content=b"n\n1\n")
        service.api.http.delete(f"/v1/sessions/{session}/files/data/old/sales.csv")
    if rest == "input":
        ask(service, session)
    if rest in ("complete", "inspect"):
        # These calls do not wait for the session lock, so wait here for the code that asked for input.
        service.api.http.post(f"/v1/sessions/{session}/execute", json={"code": "import os"})


def ask(service: Service, session: str) -> None:
    """Run code in the session that waits for input."""

    def follow() -> None:
        url = f"/v1/sessions/{session}/execute/stream"
        asking = {"code": "input()", "allow_stdin": True}
        with service.api.http.stream("POST", url, json=asking) as stream:
            for line in stream.iter_lines():
                if line == "event: input_request":
                    asked.set()

    asked = threading.Event()
    threading.Thread(target=follow, daemon=True).start()
    assert asked.wait(60), "the code did not ask for input"


def check_answer(response: httpx.Response, documented: dict[str, Any]) -> None:
    """Assert that the body of the response has a documented media type and matches its schema."""
    if not response.content:
        return
    kind = response.headers["content-type"].partition(";")[0]
    schema = documented["content"][kind]["schema"]
    if kind == "application/json":
        jsonschema.validate(response.json(), resolved(schema))
