"""Tests of how a request sends its key, and of the paths that need none."""

import itertools
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute

from service.auth.keyring import digest
from service.mcp import endpoint as mcp
from service.server import ROUTERS
from tests.auth.belongings import ENV_KEY, OPEN, VERBS, Things, answered, filled, lasting, routes
from tests.support.api import problem
from tests.support.keys import KeyedService
from tests.support.process import ROOT

pytestmark = pytest.mark.timeout(120)


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
