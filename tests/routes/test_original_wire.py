"""Tests of the exact formats that clients of the original API rely on, with default settings.

`Onyx` below sends what the Onyx client sends and reads what it reads.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.process import Service


class Onyx:
    """A client like that of Onyx: plain posts, `raise_for_status`, a reader of lines."""

    def __init__(self, base_url: str) -> None:
        self.http = httpx.Client(base_url=base_url, timeout=30)

    def execute(self, code: str, timeout_ms: int, **more: Any) -> dict[str, Any]:
        """Return the result of `POST /v1/execute`."""
        response = self.http.post("/v1/execute", json={"code": code, "timeout_ms": timeout_ms, **more})
        response.raise_for_status()
        body: dict[str, Any] = response.json()
        return body

    def stream(self, code: str, timeout_ms: int, **more: Any) -> Iterator[tuple[str, Any]]:
        """Return type and data of the events of `POST /v1/execute/stream`; ignore unknown types."""
        body = {"code": code, "timeout_ms": timeout_ms, **more}
        with self.http.stream("POST", "/v1/execute/stream", json=body) as response:
            response.raise_for_status()
            kind, data = "", ""
            for line in response.iter_lines():
                if line.startswith("event:"):
                    kind = line.removeprefix("event:").strip()
                elif line.startswith("data:"):
                    data += line.removeprefix("data:").strip()
                elif line == "" and kind:
                    if kind in ("output", "result", "error"):
                        yield kind, json.loads(data)
                    kind, data = "", ""

    def upload(self, content: bytes, filename: str) -> str:
        """`POST /v1/files`."""
        response = self.http.post("/v1/files", files={"file": (filename, content)})
        response.raise_for_status()
        file_id: str = response.json()["file_id"]
        return file_id

    def download(self, file_id: str) -> bytes:
        """`GET /v1/files/{id}`."""
        response = self.http.get(f"/v1/files/{file_id}")
        response.raise_for_status()
        return response.content

    def delete(self, file_id: str) -> None:
        """`DELETE /v1/files/{id}`."""
        self.http.delete(f"/v1/files/{file_id}").raise_for_status()


@pytest.fixture
def onyx(default_service: Service) -> Iterator[Onyx]:
    """Return a client of the service with default settings."""
    client = Onyx(default_service.base_url)
    yield client
    client.http.close()


def test_the_example_of_the_readme_works(onyx: Onyx) -> None:
    """Code with `print` and a last expression runs with the original's default options."""
    response = onyx.http.post("/v1/execute", json={"code": 'print("Hello, World!")\n2 + 2'})
    assert response.status_code == 200
    body = response.json()
    assert body["stdout"] == "Hello, World!\n4\n"
    assert body["stderr"] == ""
    assert body["exit_code"] == 0
    assert body["timed_out"] is False
    assert type(body["duration_ms"]) is int and body["duration_ms"] >= 0
    assert body["files"] == []


def test_the_default_timeout_is_two_seconds(onyx: Onyx) -> None:
    """The default `timeout_ms` is 2000."""
    code = "import time\nprint('started')\ntime.sleep(60)"
    body = onyx.http.post("/v1/execute", json={"code": code}).json()
    assert (body["timed_out"], body["exit_code"], body["stdout"]) == (True, None, "started\n")
    assert 2000 <= body["duration_ms"] < 9000


def test_the_longest_timeout_is_ten_seconds(onyx: Onyx) -> None:
    """10000 is accepted. 10001 is refused with the original's text."""
    assert onyx.execute("1", 10_000)["exit_code"] == 0
    response = onyx.http.post("/v1/execute", json={"code": "1", "timeout_ms": 10_001})
    assert response.status_code == 422
    assert response.json()["detail"] == "timeout_ms exceeds maximum of 10000 ms"


def test_inputs_are_staged_and_changed_files_returned(onyx: Onyx) -> None:
    """Upload, stage, run, read `files`, download and delete work as Onyx does them."""
    file_id = onyx.upload(b"a,b\n1,2\n", "table.csv")
    code = (
        "import os, sys\ntext = open('data/table.csv').read()\nos.makedirs('out')\n"
        "with open('out/copy.csv', 'w') as f: _ = f.write(text + sys.stdin.read())\nprint('ok')"
    )
    body = onyx.execute(code, 5000, stdin="3,4\n", files=[{"path": "data/table.csv", "file_id": file_id}])
    assert (body["stdout"], body["exit_code"]) == ("ok\n", 0)
    (file,) = body["files"]
    assert (file["path"], file["kind"]) == ("out/copy.csv", "file")
    assert onyx.download(file["file_id"]) == b"a,b\n1,2\n3,4\n"
    for stored in (file_id, file["file_id"]):
        onyx.delete(stored)
        assert onyx.http.get(f"/v1/files/{stored}").status_code == 404
        assert onyx.http.delete(f"/v1/files/{stored}").status_code == 404


def test_files_are_listed_as_the_original_lists_them(onyx: Onyx) -> None:
    """An upload gives 201, and the list has id, name, size and time of each file."""
    response = onyx.http.post("/v1/files", files={"file": ("naïve name.txt", b"12345")})
    assert response.status_code == 201
    file_id = response.json()["file_id"]
    (entry,) = (f for f in onyx.http.get("/v1/files").json()["files"] if f["file_id"] == file_id)
    assert (entry["filename"], entry["size_bytes"]) == ("naïve name.txt", 5)
    assert type(entry["upload_time"]) is float and entry["upload_time"] > 1.7e9
    download = onyx.http.get(f"/v1/files/{file_id}")
    assert download.headers["content-type"] == "application/octet-stream"
    assert "attachment" in download.headers["content-disposition"]
    response = onyx.http.delete(f"/v1/files/{file_id}")
    assert (response.status_code, response.content) == (204, b"")


def test_a_stream_is_read_by_the_originals_reader(onyx: Onyx) -> None:
    """Output arrives in pieces of one stream each. The result has the rest. Displays are skipped."""
    code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\ndisplay(1)\nopen('f', 'w').close()"
    events = list(onyx.stream(code, 5000))
    assert [kind for kind, _ in events[:-1]] == ["output"] * (len(events) - 1)
    printed = {"stdout": "", "stderr": ""}
    for _, data in events[:-1]:
        assert set(data) == {"stream", "data"}
        printed[data["stream"]] += data["data"]
    assert printed == {"stdout": "out\n", "stderr": "err\n"}
    kind, result = events[-1]
    assert kind == "result"
    assert (result["exit_code"], result["timed_out"]) == (0, False)
    assert type(result["duration_ms"]) is int
    assert [(file["path"], file["kind"]) for file in result["files"]] == [("f", "file")]
    assert onyx.download(result["files"][0]["file_id"]) == b""


def test_an_unknown_file_is_404_with_the_originals_text(onyx: Onyx) -> None:
    """The error of both execute calls has the id and the path."""
    file_id = "00000000-0000-4000-8000-000000000000"
    body = {"code": "1", "files": [{"path": "a.txt", "file_id": file_id}]}
    for path in ("/v1/execute", "/v1/execute/stream"):
        response = onyx.http.post(path, json=body)
        assert response.status_code == 404
        assert response.json()["detail"] == f"File with ID '{file_id}' not found for path 'a.txt'."


def test_health_is_ok_with_a_version_that_has_sessions(onyx: Onyx) -> None:
    """Onyx's client wants `status` ok and a version of at least 0.4.0."""
    response = onyx.http.get("/health")
    assert response.status_code == 200
    body = response.json()
    assert body["status"] == "ok"
    assert body["message"] is None
    assert tuple(int(part) for part in body["version"].split(".")) >= (0, 4, 0)
