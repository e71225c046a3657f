"""The service's API as a caller sees it. The form of every response is checked on the way."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx

from tests.support.sse import Event, events, strict_json

Body = dict[str, Any]

EXECUTE_FIELDS = {
    "stdout": str,
    "stderr": str,
    "exit_code": int | None,
    "timed_out": bool,
    "duration_ms": int,
    "files": list,
    "outputs": list,
    "error": dict | None,
    "state": str,
    "state_reason": str,
    "execution_id": str,
    "truncated": list,
    "skipped_files": list,
    "usage": dict,
    "notice": str,
}
"""Every field of an execute response and its type."""

ORDINARY_TIMEOUT_MS = 10_000
"""Timeout of tests that are not about time, so that a busy machine does not fail them."""


def problem(response: httpx.Response) -> Body:
    """Check that the response is a 4xx, 503 or 507 with a reason, and return its body."""
    assert 400 <= response.status_code < 500 or response.status_code in (503, 507), (
        response.status_code,
        response.text[:500],
    )
    assert response.headers["content-type"].startswith("application/json")
    body = strict_json(response.content)
    assert isinstance(body, dict)
    assert body["detail"], "a refusal says what is wrong"
    assert isinstance(body["detail"], str | list)
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", body["code"]), body
    return body


def check_result(result: Body, without: frozenset[str] = frozenset()) -> None:
    """Assert the names and types that every execution's result has."""
    for name, kind in EXECUTE_FIELDS.items():
        if name in without:
            assert name not in result
            continue
        assert name in result, f"{name} is missing"
        assert isinstance(result[name], kind), f"{name} is {result[name]!r}"
    assert result["timed_out"] is False or result["exit_code"] is None
    for file in result["files"]:
        assert set(file) == {"path", "kind", "file_id", "size_bytes"}
        assert file["kind"] == "file"
    for file in result["skipped_files"]:
        assert set(file) == {"path", "size_bytes", "reason"}
        assert file["reason"]
    if result["error"] is not None:
        assert set(result["error"]) == {"name", "value", "traceback"}


class Api:
    """One service's API over one HTTP client, which may have an API key."""

    def __init__(self, base_url: str, key: str | None = None) -> None:
        headers = {} if key is None else {"X-API-Key": key}
        self.http = httpx.Client(base_url=base_url, timeout=60, headers=headers)
        self.last_answer = ""
        """Text of the latest execute response, for the report of a failed test."""

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def execute(self, code: str, **fields: Any) -> httpx.Response:
        """Return the response to `POST /v1/execute`, also an error."""
        body = {"code": code, "timeout_ms": ORDINARY_TIMEOUT_MS, **fields}
        response = self.http.post("/v1/execute", json=body)
        self.last_answer = response.text
        return response

    def run(self, code: str, **fields: Any) -> Body:
        """Return the result of a `POST /v1/execute` that must give 200."""
        response = self.execute(code, **fields)
        assert response.status_code == 200, (response.status_code, response.text[:1000])
        result = strict_json(response.content)
        assert isinstance(result, dict)
        check_result(result)
        return result

    def open_stream(self, code: str, **fields: Any) -> AbstractContextManager[Iterator[Event]]:
        """Open `POST /v1/execute/stream`, and yield its events as they arrive."""
        return self.open_stream_at("/v1/execute/stream", code, **fields)

    @contextmanager
    def open_stream_at(self, url: str, code: str, **fields: Any) -> Iterator[Iterator[Event]]:
        """Open the streaming call at `url`, as `open_stream` does."""
        body = {"code": code, "timeout_ms": ORDINARY_TIMEOUT_MS, **fields}
        with self.http.stream("POST", url, json=body) as response:
            if response.status_code != 200:
                response.read()
            assert response.status_code == 200, response.text[:1000]
            media_type = response.headers["content-type"].replace(" ", "").lower()
            assert media_type == "text/event-stream;charset=utf-8"
            yield events(response.iter_raw())

    def stream(self, code: str, **fields: Any) -> list[Event]:
        """Return all events of one streamed execution, without comments."""
        with self.open_stream(code, **fields) as received:
            return [event for event in received if event.type != ":"]

    def upload(self, content: bytes, filename: str = "upload.bin") -> str:
        """Store a file and return its id."""
        response = self.http.post("/v1/files", files={"file": (filename, content)})
        assert response.status_code == 201, response.text[:1000]
        file_id = response.json()["file_id"]
        assert isinstance(file_id, str)
        return file_id

    def stage(self, **contents: bytes) -> list[Body]:
        """Upload files and return the `files` field that puts each at the path it is named by."""
        return self.stage_at(contents)

    def stage_at(self, contents: dict[str, bytes]) -> list[Body]:
        """Upload files as `stage` does, for paths that are not Python names."""
        return [{"path": path, "file_id": self.upload(data)} for path, data in contents.items()]

    def download(self, file_id: str) -> bytes:
        """Return the bytes of a stored file."""
        response = self.http.get(f"/v1/files/{file_id}")
        assert response.status_code == 200, response.text[:1000]
        return response.content

    def returned(self, result: Body) -> dict[str, bytes]:
        """Return the files of a result, path to downloaded bytes, after a check of their sizes."""
        contents = {}
        for file in result["files"]:
            data = self.download(file["file_id"])
            assert len(data) == file["size_bytes"], file["path"]
            contents[file["path"]] = data
        assert len(contents) == len(result["files"]), "a path came back twice"
        return contents
