"""The things that a key owns on a service, and the calls of every route that name one by its id."""

import uuid
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from service.app import PAGES
from service.http.guard import ALWAYS_OPEN
from tests.support.api import problem
from tests.support.keys import KeyedService
from tests.support.process import Service
from tests.support.session import Session, open_session

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


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Return the method and path of every route, with `{path}` for `{path:path}`."""
    found = set()
    for path, operations in app.openapi()["paths"].items():
        found |= {(method.upper(), path) for method in operations}
    return found


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


def filled(path: str, ids: dict[str, str]) -> str:
    """Return the path of a route with the ids filled in."""
    return path.format(path=PATH, **ids)


def answered(service: Service, *headers: tuple[str, str | bytes], path: str = "/v1/files") -> Any:
    """Send a request with these headers, unchanged. Return 200, or the error code of the response."""
    pairs = [
        (name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers
    ]
    response = httpx.get(service.base_url + path, headers=httpx.Headers(pairs), timeout=30)
    return response.status_code if response.status_code == 200 else problem(response)["code"]
