"""Tests of uploads over real HTTP: their bytes, names and media types, and the uploads that are refused."""

import hashlib
import os
import socket
import time
import tracemalloc
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from service.settings.values import MIB
from tests.routes.files_support import RunningApp, serve_app
from tests.routes.multipart import BOUNDARY, MULTIPART, body, part, streamed
from tests.support.settings import make_settings
from tests.support.waiting import soon


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 10 * MIB])
def test_bytes_come_back_exactly(api: RunningApp, size: int) -> None:
    """Every size up to the limit, from nothing to the limit itself, survives the round trip."""
    content = os.urandom(size)
    stored = api.upload(content, "data.bin")
    digest = hashlib.sha256(content).hexdigest()
    assert stored == {
        "file_id": str(uuid.UUID(stored["file_id"], version=4)),
        "filename": "data.bin",
        "size_bytes": size,
        "upload_time": pytest.approx(time.time(), abs=10),
        "sha256": digest,
        "media_type": "application/octet-stream",
        "expires_at": pytest.approx(stored["upload_time"] + 3600),
    }
    response = api.http.get(f"/v1/files/{stored['file_id']}")
    assert response.status_code == 200
    assert response.content == content
    assert response.headers["content-length"] == str(size)
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["etag"] == f'"{digest}"'
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "sandbox"


def test_bytes_that_look_like_boundaries_come_back(api: RunningApp) -> None:
    """Content full of line ends and parts of the boundary is stored unchanged."""
    content = (b"\r\n--" + BOUNDARY[:-1].encode() + b"\r\n\r\n--\r\n") * 5000
    sent = body(part(content, b'name="file"; filename="tricky"'))
    pieces = (sent[start : start + 7919] for start in range(0, len(sent), 7919))
    stored = api.http.post("/v1/files", content=pieces, headers=MULTIPART).json()
    assert api.http.get(f"/v1/files/{stored['file_id']}").content == content


def test_parallel_uploads_are_stored_separately(fresh: RunningApp) -> None:
    """Fifty uploads in parallel are all stored, none with the bytes of another."""
    contents = [os.urandom(20_000 + number) for number in range(50)]
    with ThreadPoolExecutor(50) as threads:
        stored = list(threads.map(fresh.upload, contents))
    assert len({file["file_id"] for file in stored}) == 50
    for file, content in zip(stored, contents, strict=True):
        assert fresh.http.get(f"/v1/files/{file['file_id']}").content == content
    assert len(fresh.http.get("/v1/files").json()["files"]) == 50
    assert fresh.on_disk("incoming") == set()


@pytest.mark.parametrize(
    ("filename", "declared", "expected"),
    [
        ("t.csv", b"text/csv; charset=utf-8", "text/csv"),
        ("t.csv", b"application/octet-stream", "text/csv"),
        ("t.csv", None, "text/csv"),
        ("t.XLSX", None, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("t.csv", b"no type at all", "text/csv"),
        ("t.tar.gz", None, "application/gzip"),
        ("t", b"IMAGE/PNG", "image/png"),
        ("t", None, "application/octet-stream"),
    ],
)
def test_media_type_is_declared_or_follows_from_the_name(
    api: RunningApp, filename: str, declared: bytes | None, expected: str
) -> None:
    """The client's media type is kept if it sends one. A download is always octet-stream."""
    header = b"" if declared is None else b"\r\nContent-Type: " + declared
    sent = body(part(b"1", f'name="file"; filename="{filename}"'.encode(), header))
    stored = api.http.post("/v1/files", content=sent, headers=MULTIPART).json()
    assert stored["media_type"] == expected
    response = api.http.get(f"/v1/files/{stored['file_id']}")
    assert response.headers["content-type"] == "application/octet-stream"


def test_storage_is_private(api: RunningApp) -> None:
    """Only the service's user can read the folder and the files."""
    stored = api.upload(b"secret")
    root = api.settings.storage.file_storage_dir
    file = root / "files" / stored["file_id"]
    modes = [path.stat().st_mode & 0o777 for path in (root, root / "files", file)]
    assert modes == [0o700, 0o700, 0o600]


@pytest.mark.parametrize(
    "filename",
    [
        b"plain.txt",
        b"two words.txt",
        "Grüße 日本語 🎉.txt".encode(),
        "\u202egpj.exe".encode(),
        b"../../etc/passwd",
        b"C:stream",
        b"100%25.txt",
        b"a;b=c'd*.txt",
        b"n" * 255,
    ],
)
def test_names_are_kept_as_given(api: RunningApp, filename: bytes) -> None:
    """A name is returned unchanged in the list, and in the download's header but for its folders."""
    sent = body(part(b"1", b'name="file"; filename="' + filename + b'"'))
    response = api.http.post("/v1/files", content=sent, headers=MULTIPART)
    assert response.status_code == 201, response.text
    stored = response.json()
    assert stored["filename"] == filename.decode()
    header = api.http.get(f"/v1/files/{stored['file_id']}").headers["content-disposition"]
    assert header.startswith('attachment; filename="')
    filename = filename.rpartition(b"/")[2]
    if "filename*=" in header:
        exact = header.partition("filename*=UTF-8''")[2]
        assert httpx.URL(f"http://x/?n={exact}").params["n"].encode() == filename
    else:
        assert header == f'attachment; filename="{filename.decode()}"'


@pytest.mark.parametrize(
    ("filename", "kept"),
    [
        (b'filename="say \\"hi\\".txt"', 'say "hi".txt'),
        (b'filename=""', "unnamed"),
        (b'filename="caf\xe9.txt"', "café.txt"),
        (b'filename="\xed\xa0\x80"', "í\xa0\x80"),
    ],
)
def test_odd_names_become_text(api: RunningApp, filename: bytes, kept: str) -> None:
    """Quotes are unescaped, an empty name becomes `unnamed`, and bytes that are not UTF-8 are Latin-1."""
    sent = body(part(b"1", b'name="file"; ' + filename))
    response = api.http.post("/v1/files", content=sent, headers=MULTIPART)
    assert response.status_code == 201, response.text
    assert response.json()["filename"] == kept
    assert api.http.get(f"/v1/files/{response.json()['file_id']}").status_code == 200


@pytest.mark.parametrize("filename", [b"a\0b", b"a\nb", b"a\x7fb", b"n" * 256, "日".encode() * 86])
def test_invalid_names_are_refused(fresh: RunningApp, filename: bytes) -> None:
    """A name with control characters or over 255 bytes gives 422, and nothing is stored."""
    sent = body(part(b"1", b'name="file"; filename="' + filename + b'"'))
    response = fresh.http.post("/v1/files", content=sent, headers=MULTIPART)
    assert response.status_code == 422
    assert response.json()["code"] == "invalid_filename"
    assert fresh.on_disk() == fresh.on_disk("incoming") == set()


@pytest.mark.parametrize("has_length", [True, False], ids=["with Content-Length", "chunked"])
@pytest.mark.parametrize("size", [10 * MIB + 1, 40 * MIB])
def test_a_file_over_the_limit_is_413_and_leaves_nothing(
    fresh: RunningApp, size: int, has_length: bool
) -> None:
    """A file one byte or far over the limit is refused, with or without a Content-Length."""
    content = b"".join(streamed(size)) if has_length else streamed(size)
    response = fresh.http.post("/v1/files", content=content, headers=MULTIPART)
    assert response.status_code == 413
    assert response.json() == {
        "detail": "File size exceeds maximum of 10 MB",
        "code": "file_too_large",
    }
    assert fresh.on_disk() == fresh.on_disk("incoming") == set()
    assert fresh.http.get("/v1/files").json()["files"] == []


FILE = part(b"1", b'name="file"; filename="a"')


@pytest.mark.parametrize(
    ("sent", "kind", "where"),
    [
        (body(), "missing", ["body", "file"]),
        (body(part(b"1", b'name="other"; filename="a"')), "missing", ["body", "file"]),
        (body(part(b"1", b'name="file"')), "file_expected", ["body", "file"]),
        (body(FILE, FILE), "too_many_files", ["body", "file"]),
        (body(FILE)[:-8], "multipart_invalid", ["body"]),
        (body(FILE).replace(b"--b", b"--c"), "multipart_invalid", ["body"]),
        (b"", "multipart_invalid", ["body"]),
        (b"{}", "multipart_invalid", ["body"]),
    ],
    ids=["no part", "other name", "no filename", "twice", "cut", "boundary", "empty", "JSON"],
)
def test_a_body_without_exactly_one_file_is_422(
    fresh: RunningApp, sent: bytes, kind: str, where: list[str]
) -> None:
    """The response is a list in FastAPI's form. Nothing is stored, not even a complete first file."""
    response = fresh.http.post("/v1/files", content=sent, headers=MULTIPART)
    assert response.status_code == 422
    answer = response.json()
    assert answer["code"] == "invalid_request"
    (problem,) = answer["detail"]
    assert (problem["type"], problem["loc"]) == (kind, where)
    assert fresh.on_disk() == fresh.on_disk("incoming") == set()


def test_other_fields_are_ignored(api: RunningApp) -> None:
    """Fields and files with other names, before or after the file, change nothing."""
    other = part(b"x" * 1000, b'name="purpose"')
    sent = body(other, FILE, part(b"y", b'name="more"; filename="b"'))
    stored = api.http.post("/v1/files", content=sent, headers=MULTIPART).json()
    assert api.http.get(f"/v1/files/{stored['file_id']}").content == b"1"


def test_a_client_that_disconnects_leaves_nothing(fresh: RunningApp) -> None:
    """An upload that breaks off after bytes have reached the disk stores no file."""
    sent = b"".join(streamed(4 * MIB))
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: {MULTIPART['Content-Type']}\r\n"
        f"Content-Length: {len(sent)}\r\n\r\n"
    )
    url = fresh.http.base_url
    with socket.create_connection((url.host, url.port or 0)) as client:
        client.sendall(head.encode() + sent[: 3 * MIB])
        assert soon(lambda: fresh.on_disk("incoming"))
    assert soon(lambda: not fresh.on_disk("incoming"))
    assert fresh.on_disk() == set()
    assert fresh.http.get("/v1/files").json()["files"] == []


def test_memory_stays_flat_while_a_file_streams(tmp_path: Path) -> None:
    """An upload and a download of 200 MB hold only a few blocks in memory at a time."""
    size = 200 * MIB
    with serve_app(make_settings(tmp_path, max_file_size_mb=200)) as running:
        running.upload(b"warm")
        tracemalloc.start()
        try:
            response = running.http.post("/v1/files", content=streamed(size), headers=MULTIPART)
            assert response.status_code == 201
            received = 0
            with running.http.stream("GET", f"/v1/files/{response.json()['file_id']}") as download:
                for chunk in download.iter_raw():
                    received += len(chunk)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert received == size
    assert peak < 8 * MIB


def test_a_sweep_leaves_a_running_upload_alone(fresh: RunningApp) -> None:
    """An upload by a slow client is not removed as a leftover of a crash."""

    def slow() -> Iterator[bytes]:
        pieces = streamed(2 * MIB)
        for piece in pieces:
            yield piece
            if fresh.on_disk("incoming"):
                fresh.sweep(time.time() + 86400)

    stored = fresh.http.post("/v1/files", content=slow(), headers=MULTIPART)
    assert stored.status_code == 201
    assert fresh.http.get(f"/v1/files/{stored.json()['file_id']}").status_code == 200


def test_the_document_describes_the_upload(api: RunningApp) -> None:
    """The OpenAPI document has the multipart body, for `/docs` and for generated clients."""
    operation = api.http.get("/openapi.json").json()["paths"]["/v1/files"]["post"]
    schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert schema["required"] == ["file"]
    assert schema["properties"]["file"]["format"] == "binary"
