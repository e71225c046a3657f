"""Tests of a service without keys, and of the change to keys and back."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.routes.files_support import serve_app
from tests.support.api import Api
from tests.support.process import Service
from tests.support.session import live_sessions, open_session
from tests.support.settings import make_settings

pytestmark = pytest.mark.timeout(120)


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
        for path in ("/docs", "/redoc", "/openapi.json", "/metrics", "/", "/page/scripts/app.js"):
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
        alices_file = alice.post("/v1/files", files={"file": ("new", b"new")}).json()["file_id"]
        alices_session = alice.post("/v1/sessions", json={}).json()["session_id"]
        alice.post(f"/v1/sessions/{alices_session}/execute", json={"code": "y = 7"})

    service.crash()
    service.restart(API_KEYS="")
    assert live_sessions(service.api) == [session.id]
    assert service.api.download(file_id) == b"old"
    assert service.api.http.get(f"/v1/files/{alices_file}").status_code == 404
    assert session.printed("print(x)") == "42"
    session.delete()

    service.stop()
    service.restart(API_KEYS="alice:key-of-alice-alice")
    with Api(service.base_url, "key-of-alice-alice").http as alice:
        assert alice.get(f"/v1/files/{alices_file}").content == b"new"
        assert (
            alice.post(f"/v1/sessions/{alices_session}/execute", json={"code": "y"}).json()["stdout"] == "7\n"
        )
        assert alice.delete(f"/v1/sessions/{alices_session}").status_code == 204
