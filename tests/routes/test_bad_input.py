"""Tests of invalid requests: each is a 4xx that says what is wrong, and leaves nothing behind."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.api import problem
from tests.support.process import Service

JSON = {"content-type": "application/json"}
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
EXECUTE_PATHS = ("/v1/execute", "/v1/execute/stream")


@pytest.fixture(scope="module")
def idle(service: Service) -> Service:
    """Return the shared service once its pool is full. No test of this module runs code."""
    service.settle(at_target=False)
    return service


@pytest.fixture(autouse=True)
def nothing_left_behind(idle: Service) -> Iterator[None]:
    """Check that each test leaves the same containers and stored files, and a working service."""
    kernels = idle.engine.kernels(idle.instance_id)
    stored = idle.stored()
    listed = idle.api.http.get("/v1/files").json()
    yield
    assert idle.engine.kernels(idle.instance_id) == kernels, "a kernel was used"
    assert idle.stored() == stored
    assert idle.api.http.get("/v1/files").json() == listed
    assert idle.running and idle.api.http.get("/health").json()["status"] == "ok"


WRONG_FIELDS: dict[str, dict[str, Any]] = {
    "code missing": {"code": ...},
    "code null": {"code": None},
    "code number": {"code": 1},
    "code true": {"code": True},
    "code list": {"code": ["1"]},
    "code object": {"code": {"a": "1"}},
    "stdin number": {"stdin": 1},
    "stdin list": {"stdin": ["line"]},
    "timeout text": {"timeout_ms": "2000"},
    "timeout fraction": {"timeout_ms": 1500.5},
    "timeout true": {"timeout_ms": True},
    "timeout null": {"timeout_ms": None},
    "timeout list": {"timeout_ms": [1]},
    "timeout zero": {"timeout_ms": 0},
    "timeout negative": {"timeout_ms": -1},
    "timeout over the maximum": {"timeout_ms": 30_001},
    "timeout huge": {"timeout_ms": 10**30},
    "interactive text": {"last_line_interactive": "perhaps"},
    "interactive list": {"last_line_interactive": []},
    "interactive null": {"last_line_interactive": None},
    "files text": {"files": "a.txt"},
    "files object": {"files": {"path": "a", "file_id": UNKNOWN_ID}},
    "files of numbers": {"files": [1]},
    "files of lists": {"files": [[]]},
    "file empty": {"files": [{}]},
    "file without id": {"files": [{"path": "a"}]},
    "file without path": {"files": [{"file_id": UNKNOWN_ID}]},
    "file path number": {"files": [{"path": 1, "file_id": UNKNOWN_ID}]},
    "file id number": {"files": [{"path": "a", "file_id": 1}]},
    "file id null": {"files": [{"path": "a", "file_id": None}]},
    "code with NUL": {"code": "print(1)\x00"},
}


@pytest.mark.parametrize("path", EXECUTE_PATHS)
@pytest.mark.parametrize("fields", WRONG_FIELDS.values(), ids=WRONG_FIELDS.keys())
def test_an_invalid_field_is_refused_by_name(idle: Service, path: str, fields: dict[str, Any]) -> None:
    """A missing, mistyped or out-of-range field is 422, and the response names the field."""
    body = {name: value for name, value in ({"code": "1"} | fields).items() if value is not ...}
    response = idle.api.http.post(path, json=body)
    assert response.status_code == 422, response.text
    (name,) = fields
    assert name in json.dumps(problem(response)["detail"])


RAW_BODIES = {
    "nothing": b"",
    "text": b"print(1)",
    "half an object": b'{"code": "1"',
    "two objects": b'{"code": "1"}{"code": "2"}',
    "array": b'[{"code": "1"}]',
    "null": b"null",
    "string": b'"print(1)"',
    "number": b"1",
    "not UTF-8": b'{"code": "\xff\xfe"}',
    "UTF-16 mark": b"\xff\xfe",
    "a raw NUL": b'{"code": "\x00"}',
    "lone surrogate in code": b'{"code": "x = \'\\ud800\'"}',
    "lone surrogate in stdin": b'{"code": "1", "stdin": "\\udfff"}',
    "encoded surrogate": b'{"code": "\xed\xa0\x80"}',
    "NaN timeout": b'{"code": "1", "timeout_ms": NaN}',
    "infinite timeout": b'{"code": "1", "timeout_ms": Infinity}',
    "NaN code": b'{"code": NaN}',
    "timeout of 5000 digits": b'{"code": "1", "timeout_ms": ' + b"9" * 5000 + b"}",
    "timeout by exponent": b'{"code": "1", "timeout_ms": 1e999}',
    "deep arrays": b"[" * 100_000,
    "deep arrays, closed": b'{"code": ' + b"[" * 90_000 + b"]" * 90_000 + b"}",
    "deep objects": b'{"code":' * 50_000 + b"1" + b"}" * 50_000,
}


@pytest.mark.parametrize("path", EXECUTE_PATHS)
@pytest.mark.parametrize("content", RAW_BODIES.values(), ids=RAW_BODIES.keys())
def test_a_malformed_body_is_refused(idle: Service, path: str, content: bytes) -> None:
    """A body that is not JSON, not an object or has invalid text is 422 with a JSON response."""
    response = idle.api.http.post(path, content=content, headers=JSON)
    assert response.status_code == 422, response.text[:500]
    problem(response)
    assert len(response.content) < 10_000


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream"]
)
def test_a_body_of_another_type_is_refused(idle: Service, media_type: str) -> None:
    """JSON with another content type is a 4xx, and so is a form."""
    headers = {"content-type": media_type}
    response = idle.api.http.post("/v1/execute", content=b'{"code": "1"}', headers=headers)
    problem(response)
    problem(idle.api.http.post("/v1/execute", data={"code": "1"}))
    problem(idle.api.http.post("/v1/execute", files={"code": b"1"}))


def test_a_refusal_does_not_repeat_the_rejected_value(idle: Service) -> None:
    """The rejected value, which may be huge or secret, is not in the response."""
    secret = "a-password-sent-by-mistake"
    for body in (
        {"code": [secret]},
        {"code": {"x": secret * 1000}},
        {"code": "1", "stdin": [secret]},
    ):
        response = idle.api.http.post("/v1/execute", json=body)
        assert response.status_code == 422
        assert secret not in response.text


def test_error_for_a_long_timeout_has_the_maximum(idle: Service) -> None:
    """The error's text has the maximum, as in the original API."""
    response = idle.api.execute("1", timeout_ms=30_001)
    assert response.status_code == 422
    assert problem(response)["detail"] == "timeout_ms exceeds maximum of 30000 ms"


def pieces(head: bytes, size: int, tail: bytes) -> Iterator[bytes]:
    """Yield a long body in pieces, so that it is sent without a Content-Length."""
    yield head
    for _ in range(size // 65_536):
        yield b"#" * 65_536
    yield tail


@pytest.mark.parametrize("path", EXECUTE_PATHS)
@pytest.mark.parametrize("has_length", [True, False], ids=["with Content-Length", "chunked"])
def test_fifty_megabytes_of_code_are_refused(idle: Service, path: str, has_length: bool) -> None:
    """A body over `MAX_REQUEST_BYTES` is 413, with or without a Content-Length."""
    before = idle.resident_kb()
    body = pieces(b'{"code": "', 50_000_000, b'"}')
    response = idle.api.http.post(path, content=b"".join(body) if has_length else body, headers=JSON)
    assert response.status_code == 413
    problem(response)
    assert idle.resident_kb() - before < 30 * 1024, "the whole body was in memory"


def test_ten_thousand_unknown_inputs_are_refused(idle: Service) -> None:
    """Ten thousand unknown files in one request do not occupy the service for long."""
    files = [{"path": f"{i}", "file_id": UNKNOWN_ID} for i in range(10_000)]
    response = idle.api.execute("1", files=files)
    assert response.status_code in (404, 422)
    problem(response)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/execute", 405),
        ("PUT", "/v1/execute", 405),
        ("GET", "/v1/execute/stream", 405),
        ("DELETE", "/v1/files", 405),
        ("POST", "/health", 405),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/../../etc/passwd", 404),
    ],
)
def test_wrong_methods_and_paths_are_refused(idle: Service, method: str, path: str, status: int) -> None:
    """Unknown paths are 404 and wrong methods 405, both with a JSON response."""
    response = idle.api.http.request(method, path)
    assert response.status_code == status
    problem(response)


# Files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize(
    "file_id",
    [
        UNKNOWN_ID,
        "nothing",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "..%5c..",
        "%00",
        "a%00b",
        "%ff%fe",
        "%F0%9F%8E%89",
        "registry.sqlite3",
        "00000000-0000-4000-8000-00000000000g",
        "{00000000-0000-4000-8000-000000000000}",
        "x" * 5000,
    ],
)
def test_an_invalid_id_is_not_found(idle: Service, method: str, file_id: str) -> None:
    """Unknown and malformed ids get the same 404 and never reach a path."""
    response = idle.api.http.request(method, f"/v1/files/{file_id}")
    assert response.status_code == 404
    if method != "HEAD":
        problem(response)


def test_error_for_an_unknown_id_names_it(idle: Service) -> None:
    """The error's text is that of the original API."""
    response = idle.api.http.get(f"/v1/files/{UNKNOWN_ID}")
    assert problem(response)["detail"] == f"File with ID '{UNKNOWN_ID}' not found"


BOUNDARY = {"content-type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\nx\r\n--b--\r\n'
UPLOADS: dict[str, tuple[dict[str, str], bytes]] = {
    "JSON": (JSON, b'{"file": "x"}'),
    "no type": ({}, b"bytes"),
    "nothing": (BOUNDARY, b""),
    "no parts": (BOUNDARY, b"--b--\r\n"),
    "another name": (BOUNDARY, PART % (b"document", b"a.txt")),
    "no boundary": ({"content-type": "multipart/form-data"}, PART % (b"file", b"a.txt")),
    "wrong boundary": (
        {"content-type": "multipart/form-data; boundary=other"},
        PART % (b"file", b"a.txt"),
    ),
    "cut short": (
        BOUNDARY,
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx',
    ),
    "cut in the head": (BOUNDARY, b"--b\r\nContent-Dispo"),
    "endless head": (BOUNDARY, b"--b\r\nX: " + b"y" * 1_000_000),
    "a field, no file": (
        BOUNDARY,
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\njust text\r\n--b--\r\n',
    ),
}


@pytest.mark.parametrize(("headers", "content"), UPLOADS.values(), ids=UPLOADS.keys())
def test_a_malformed_upload_is_refused(idle: Service, headers: dict[str, str], content: bytes) -> None:
    """A body other than multipart with a complete part named `file` is a 4xx. Nothing is stored."""
    response = idle.api.http.post("/v1/files", content=content, headers=headers)
    assert response.status_code in (400, 422), response.text
    problem(response)


@pytest.mark.parametrize("has_length", [True, False], ids=["with Content-Length", "chunked"])
def test_an_upload_over_the_limit_is_refused(idle: Service, has_length: bool) -> None:
    """A file slightly over `MAX_FILE_SIZE_MB`, or of 50 MB, is 413, and the error has the limit."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    for size in (10 * 1024 * 1024 + 65_536, 50_000_000):
        body = pieces(head, size, b"\r\n--b--\r\n")
        content = b"".join(body) if has_length else body
        response = idle.api.http.post("/v1/files", content=content, headers=BOUNDARY)
        assert response.status_code == 413
        assert problem(response)["code"] == "file_too_large"
        assert response.json()["detail"] == "File size exceeds maximum of 10 MB"


def test_an_upload_that_breaks_off_leaves_nothing(idle: Service) -> None:
    """An upload whose connection breaks stores no file and leaves no bytes."""
    before = idle.stored()

    def breaking() -> Iterator[bytes]:
        yield from pieces(
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n',
            1_000_000,
            b"",
        )
        raise ConnectionAbortedError("the test hangs up")

    with httpx.Client(base_url=idle.base_url) as client, pytest.raises(ConnectionAbortedError):
        client.post("/v1/files", content=breaking(), headers=BOUNDARY)
    deadline = time.monotonic() + 60
    while idle.stored() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert idle.stored() == before


@pytest.mark.parametrize(
    "filename", ["../../evil", "/etc/evil", "a\\..\\evil", "x" * 10_000, "\u202eevil", '"; x="y']
)
def test_a_files_name_is_only_a_label(idle: Service, filename: str) -> None:
    """A file whose name looks like a path is stored under its id and nowhere else."""
    before = idle.stored()
    response = idle.api.http.post("/v1/files", files={"file": (filename, b"x")})
    if response.status_code != 201:
        problem(response)
        return
    file_id = response.json()["file_id"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", file_id)
    assert idle.stored() - before == {f"files/{file_id}"}
    download = idle.api.http.get(f"/v1/files/{file_id}")
    assert download.content == b"x"
    assert "\n" not in download.headers["content-disposition"]
    assert idle.api.http.delete(f"/v1/files/{file_id}").status_code == 204


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=1001", "limit=many", "limit=" + "9" * 5000])
def test_an_invalid_page_size_is_refused(idle: Service, query: str) -> None:
    """The parameter `limit` must be from 1 to 1000."""
    response = idle.api.http.get(f"/v1/files?{query}")
    assert response.status_code == 422
    problem(response)


@pytest.mark.parametrize("cursor", ["garbage", "%00", "%ff", "-1", "a" * 5000, "' OR 1=1 --"])
def test_an_unknown_cursor_gives_no_files(idle: Service, cursor: str) -> None:
    """A cursor from no earlier page gives an empty page or a 4xx."""
    response = idle.api.http.get(f"/v1/files?limit=5&after={cursor}")
    if response.status_code != 200:
        problem(response)
    else:
        assert set(response.json()) == {"files", "next"}
