"""A session as a caller sees it. The form of every response is checked."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any
from urllib.parse import quote

import httpx

from tests.support.api import ORDINARY_TIMEOUT_MS, Api, Body, check_result, problem
from tests.support.process import Service
from tests.support.sse import Event, strict_json

SESSION_FIELDS = {
    "session_id": str,
    "created_at": float,
    "expires_at": float,
    "idle_expires_at": float | None,
    "last_used_at": float,
    "state": str,
    "execution_count": int,
}
"""Fields of a session's description, with types; times are seconds since the epoch."""

CELL_FIELDS = {
    "cell_id": str,
    "number": int,
    "code": str,
    "state": str,
    "started_at": float,
    "finished_at": float | None,
    "result": dict | None,
    "removed": str | None,
}
"""Fields of a cell, with types."""


def _check_fields(body: Body, fields: dict[str, Any]) -> None:
    for name, kind in fields.items():
        assert name in body, f"{name} is missing"
        assert isinstance(body[name], kind), f"{name} is {body[name]!r}"


def check_session(body: Body) -> None:
    """Assert the names and types that a session's description has."""
    _check_fields(body, SESSION_FIELDS)
    assert body["state"] in ("ready", "busy")


def check_cell(body: Body) -> None:
    """Assert the names and types of a cell, and that it has a result if it is done."""
    _check_fields(body, CELL_FIELDS)
    assert body["state"] in ("running", "done", "lost")
    assert body["state"] != "running" or body["finished_at"] is None
    if body["state"] == "done":
        assert body["finished_at"] >= body["started_at"]
        if body["removed"] is None:
            check_session_result(body["result"])
        else:
            assert body["result"] is None


def check_session_result(result: Body, without: frozenset[str] = frozenset()) -> None:
    """Assert what an execution's result has in a session: also what became of the state, and why."""
    check_result(result, without)
    assert result["state"] in ("kept", "restarted", "discarded")
    assert result["state"] == "kept" or result["state_reason"], "a lost state has a reason"
    assert isinstance(result["execution_count"], int | None)
    assert isinstance(result["cell_id"], str)


WAIT_FOR_FILE = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.05)\nos.remove('go')\n"
"""Code that waits until the test writes the file `go` into the workspace."""


class Session:
    """One session of a service. It stays usable when the service is restarted."""

    def __init__(self, service: Service, created: Body, api: Api | None = None) -> None:
        self.service = service
        self._api = api
        self.created = created
        """The response that created the session."""
        self.id: str = created["session_id"]
        self.url = f"/v1/sessions/{self.id}"

    @property
    def api(self) -> Api:
        """The API with the key that opened the session. Its address changes when the service restarts."""
        return self._api or self.service.api

    def call(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        """Send a request beneath the session's URL; return the response, also an error."""
        return self.api.http.request(method, self.url + path, **options)

    def _json(self, method: str, path: str = "", status: int = 200, **options: Any) -> Body:
        response = self.call(method, path, **options)
        assert response.status_code == status, (response.status_code, response.text[:1000])
        body = strict_json(response.content)
        assert isinstance(body, dict)
        return body

    def describe(self) -> Body:
        """`GET`: return the description of the session."""
        body = self._json("GET")
        check_session(body)
        assert body["session_id"] == self.id
        return body

    def extend(self, ttl_seconds: int) -> Body:
        """Let the session expire in `seconds`, by `PATCH`."""
        body = self._json("PATCH", json={"ttl_seconds": ttl_seconds})
        check_session(body)
        return body

    def delete(self) -> httpx.Response:
        """`DELETE`: return the response, also an error."""
        return self.call("DELETE")

    def execute(self, code: str, **fields: Any) -> httpx.Response:
        """`POST …/execute`: return the response, also an error."""
        body = {"code": code, "timeout_ms": ORDINARY_TIMEOUT_MS, **fields}
        response = self.call("POST", "/execute", json=body)
        self.api.last_answer = response.text
        return response

    def run(self, code: str, **fields: Any) -> Body:
        """Return the result of a `POST …/execute` that must succeed."""
        response = self.execute(code, **fields)
        assert response.status_code == 200, (response.status_code, response.text[:1000])
        result = strict_json(response.content)
        assert isinstance(result, dict)
        check_session_result(result)
        return result

    def printed(self, code: str, **fields: Any) -> str:
        """Run code that must succeed; return its standard output without surrounding space."""
        result = self.run(code, **fields)
        assert result["exit_code"] == 0, result["stderr"]
        return str(result["stdout"]).strip()

    def detach(self, code: str, **fields: Any) -> str:
        """Start code without waiting for it, and return the id of its cell."""
        response = self.execute(code, detach=True, **fields)
        assert response.status_code == 202, (response.status_code, response.text[:1000])
        cell_id = strict_json(response.content)["cell_id"]
        assert isinstance(cell_id, str)
        return cell_id

    def open_stream(self, code: str, **fields: Any) -> AbstractContextManager[Iterator[Event]]:
        """Open `POST …/execute/stream`, and yield its events as they arrive."""
        return self.api.open_stream_at(f"{self.url}/execute/stream", code, **fields)

    def stream(self, code: str, **fields: Any) -> list[Event]:
        """Return all events of one streamed execution, without comments."""
        with self.open_stream(code, **fields) as received:
            return [event for event in received if event.type != ":"]

    def bash(self, cmd: str, **fields: Any) -> Body:
        """Return the result of a `POST …/bash` that must succeed."""
        return self._json("POST", "/bash", json={"cmd": cmd, **fields})

    def interrupt(self) -> None:
        """Interrupt the running code, by `POST …/interrupt`."""
        response = self.call("POST", "/interrupt")
        assert (response.status_code, response.content) == (204, b""), response.text[:1000]

    def restart(self) -> Body:
        """`POST …/restart`: return the description of the session."""
        body = self._json("POST", "/restart")
        check_session(body)
        return body

    def cells(self) -> list[Body]:
        """Return the cells, from all pages of `GET …/cells`."""
        cells: list[Body] = []
        parameters: dict[str, str] = {}
        while True:
            page = self._json("GET", "/cells", params=parameters)
            cells += page["cells"]
            if page["next"] is None:
                break
            parameters = {"after": page["next"]}
        for cell in cells:
            check_cell(cell)
        return cells

    def cell(self, cell_id: str) -> Body:
        """Return a cell, from `GET …/cells/{cell_id}`."""
        cell = self._json("GET", f"/cells/{cell_id}")
        check_cell(cell)
        return cell

    def finished(self, cell_id: str, seconds: float = 60) -> Body:
        """Wait until a cell has ended, and return it."""
        deadline = time.monotonic() + seconds
        while (cell := self.cell(cell_id))["state"] == "running":
            assert time.monotonic() < deadline, f"still running after {seconds} s"
            time.sleep(0.1)
        return cell

    def files(self) -> dict[str, Body]:
        """Return the entries of `GET …/files` by their paths."""
        listed = self._json("GET", "/files")["files"]
        for file in listed:
            _check_fields(file, {"path": str, "size_bytes": int, "modified_at": float})
        assert len({file["path"] for file in listed}) == len(listed)
        return {file["path"]: file for file in listed}

    def file(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request for one file; return the response, also an error. The path is quoted except `/`."""
        return self.call(method, f"/files/{quote(path)}", **options)

    def put(self, path: str, content: Any) -> None:
        """Write a file from outside."""
        response = self.file("PUT", path, content=content)
        assert response.status_code == 201, (response.status_code, response.text[:1000])
        body = strict_json(response.content)
        assert body["path"] == path
        if isinstance(content, bytes):
            assert body["size_bytes"] == len(content)

    def read(self, path: str) -> bytes:
        """Return the bytes of a file."""
        response = self.file("GET", path)
        assert response.status_code == 200, (response.status_code, response.text[:1000])
        return response.content

    def ended(self) -> Body:
        """Return the error of a session that must have ended: 410 with a reason and a time."""
        response = self.call("GET")
        assert response.status_code == 410, (response.status_code, response.text[:1000])
        body = problem(response)
        assert body["code"] == "session_ended"
        assert body["reason"] in ("expired", "idle", "deleted", "lost")
        assert body["reason"] in body["detail"]
        assert isinstance(body["ended_at"], float)
        return body

    def wait_until_ended(self, seconds: float = 60) -> Body:
        """Wait until the session has ended by itself, and return the error of `GET`."""
        deadline = time.monotonic() + seconds
        while self.call("GET").status_code == 200:
            assert time.monotonic() < deadline, f"still there after {seconds} s"
            time.sleep(0.1)
        return self.ended()


def open_session(service: Service, api: Api | None = None, **fields: Any) -> Session:
    """Open a session, which must succeed. `new_session` also deletes it."""
    response = (api or service.api).http.post("/v1/sessions", json=fields)
    assert response.status_code == 201, (response.status_code, response.text[:1000])
    body = strict_json(response.content)
    check_session(body)
    return Session(service, body, api)


@contextmanager
def new_session(service: Service, api: Api | None = None, **fields: Any) -> Iterator[Session]:
    """Open a session for the block, and delete it afterwards, if it still exists."""
    session = open_session(service, api, **fields)
    try:
        yield session
    finally:
        with suppress(httpx.HTTPError, RuntimeError):  # the service may not run
            session.delete()


def live_sessions(api: Api) -> list[str]:
    """Return the ids of the sessions that `GET /v1/sessions` lists."""
    response = api.http.get("/v1/sessions")
    assert response.status_code == 200, response.text[:1000]
    listed = strict_json(response.content)["sessions"]
    for body in listed:
        check_session(body)
    return [body["session_id"] for body in listed]


class StandingSession:
    """A session for many tests that may damage it. If it is lost, the next test gets another."""

    def __init__(self, service: Service, **fields: Any) -> None:
        self._service = service
        self._fields = fields
        self._session: Session | None = None

    def alive(self) -> Session:
        """Return the session, or a new one if it has ended."""
        if self._session is None or self._session.call("GET").status_code != 200:
            self._session = open_session(self._service, **self._fields)
        return self._session

    def close(self) -> None:
        """Delete the session."""
        if self._session is not None:
            self._session.delete()
