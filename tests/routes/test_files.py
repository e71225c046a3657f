"""Tests of the file API over real HTTP with a real registry and folder."""

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
from tests.support.settings import make_settings
from tests.support.waiting import soon

BOUNDARY = "boundary-of-the-test"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """Serve the API for all tests that leave nothing that other tests could see."""
    with serve_app(make_settings(tmp_path_factory.mktemp("files"))) as running:
        yield running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[RunningApp]:
    """Serve the API for one test, without stored files."""
    with serve_app(make_settings(tmp_path)) as running:
        yield running


def part(content: bytes, disposition: bytes, headers: bytes = b"") -> bytes:
    """Return one part of a multipart body, with its leading boundary."""
    start = f"--{BOUNDARY}\r\n".encode()
    head = b"Content-Disposition: form-data; " + disposition + headers
    return start + head + b"\r\n\r\n" + content


def body(*parts: bytes) -> bytes:
    """Return a whole multipart body."""
    return b"".join(piece + b"\r\n" for piece in parts) + f"--{BOUNDARY}--\r\n".encode()


def streamed(size: int, piece: bytes = b"x" * 65536) -> Iterator[bytes]:
    """Yield a multipart body with a file of ``size`` bytes, without holding it in memory."""
    yield part(b"", b'name="file"; filename="big.bin"')
    while size:
        now = min(size, len(piece))
        yield piece[:now]
        size -= now
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


# Upload and download ---------------------------------------------------------------------------


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


# Names -----------------------------------------------------------------------------------------


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
    """A name is returned unchanged in the list and in the download's header."""
    sent = body(part(b"1", b'name="file"; filename="' + filename + b'"'))
    response = api.http.post("/v1/files", content=sent, headers=MULTIPART)
    assert response.status_code == 201, response.text
    stored = response.json()
    assert stored["filename"] == filename.decode()
    header = api.http.get(f"/v1/files/{stored['file_id']}").headers["content-disposition"]
    assert header.startswith('attachment; filename="')
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


# Uploads that are refused ----------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False], ids=["with Content-Length", "chunked"])
@pytest.mark.parametrize("size", [10 * MIB + 1, 40 * MIB])
def test_a_file_over_the_limit_is_413_and_leaves_nothing(fresh: RunningApp, size: int, told: bool) -> None:
    """A file one byte or far over the limit is refused, with or without a Content-Length."""
    content = b"".join(streamed(size)) if told else streamed(size)
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


# Ids -------------------------------------------------------------------------------------------

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize(
    "file_id",
    [UNKNOWN, "../registry.sqlite3", "..%2fregistry.sqlite3", "%2e%2e", "%00", "a" * 5000, "é"],
)
def test_an_invalid_id_is_not_found(api: RunningApp, method: str, file_id: str) -> None:
    """Unknown ids and text that looks like a path get the same response."""
    response = api.http.request(method, f"/v1/files/{file_id}")
    assert response.status_code == 404
    if method != "HEAD":
        assert set(response.json()) == {"detail", "code"}


def test_ids_have_one_spelling(api: RunningApp) -> None:
    """An id in capitals, or without its hyphens, is not found."""
    file_id = api.upload(b"1", "a")["file_id"]
    for other in (file_id.upper(), file_id.replace("-", ""), f"{{{file_id}}}", f"{file_id}%0a"):
        if other != file_id:
            response = api.http.get(f"/v1/files/{other}")
            assert response.status_code == 404
            assert response.json()["code"] == "file_not_found"


def test_not_found_error_has_the_id(api: RunningApp) -> None:
    """The error's text is that of the original API."""
    assert api.http.get(f"/v1/files/{UNKNOWN}").json() == {
        "detail": f"File with ID '{UNKNOWN}' not found",
        "code": "file_not_found",
    }


def test_a_wrong_method_is_405(api: RunningApp) -> None:
    """The error lists the allowed methods and has the form of all errors."""
    response = api.http.put("/v1/files")
    assert response.status_code == 405
    assert response.json() == {"detail": "Method Not Allowed", "code": "method_not_allowed"}


# Downloads -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=990-", 990, 1000),
        ("bytes=-10", 990, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=900-5000", 900, 1000),
        ("Bytes = 5 - 6", 5, 7),
    ],
)
def test_a_range_gives_that_part(api: RunningApp, header: str, start: int, end: int) -> None:
    """A request for one range gets 206 and exactly those bytes."""
    content = bytes(range(250)) * 4
    file_id = api.upload(content)["file_id"]
    response = api.http.get(f"/v1/files/{file_id}", headers={"Range": header})
    assert response.status_code == 206
    assert response.content == content[start:end]
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/1000"


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=5000-6000", "bytes=-0"])
def test_a_range_beyond_the_end_is_416(api: RunningApp, header: str) -> None:
    """The response gives the file's size."""
    file_id = api.upload(b"x" * 1000)["file_id"]
    response = api.http.get(f"/v1/files/{file_id}", headers={"Range": header})
    assert response.status_code == 416
    assert response.headers["content-range"] == "bytes */1000"
    assert response.json()["code"] == "range_not_satisfiable"


@pytest.mark.parametrize("header", ["bytes=1-2,4-5", "bytes=5-2", "bytes=-", "lines=1-2", "x"])
def test_other_ranges_give_the_whole_file(api: RunningApp, header: str) -> None:
    """Several ranges and malformed ranges are ignored, as the standard allows."""
    file_id = api.upload(b"x" * 1000)["file_id"]
    response = api.http.get(f"/v1/files/{file_id}", headers={"Range": header})
    assert (response.status_code, len(response.content)) == (200, 1000)


def test_a_conditional_download_sends_no_unchanged_file(api: RunningApp) -> None:
    """`If-None-Match` with the file's tag gives 304. `If-Range` with another tag gives the whole file."""
    stored = api.upload(b"x" * 1000)
    url, etag = f"/v1/files/{stored['file_id']}", f'"{stored["sha256"]}"'
    for condition in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = api.http.get(url, headers={"If-None-Match": condition})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
    assert api.http.get(url, headers={"If-None-Match": '"other"'}).status_code == 200
    for condition, status in ((etag, 206), ('"other"', 200)):
        headers = {"Range": "bytes=0-9", "If-Range": condition}
        assert api.http.get(url, headers=headers).status_code == status


def test_head_returns_the_headers_without_a_body(api: RunningApp) -> None:
    """HEAD returns the headers of GET, for ranges too."""
    file_id = api.upload(b"x" * 1000)["file_id"]
    for headers in ({}, {"Range": "bytes=0-9"}):
        get = api.http.get(f"/v1/files/{file_id}", headers=headers)
        head = api.http.head(f"/v1/files/{file_id}", headers=headers)
        assert (head.status_code, head.content) == (get.status_code, b"")
        for name in ("content-length", "content-type", "etag", "content-disposition"):
            assert head.headers[name] == get.headers[name]


def test_deleting_does_not_break_a_download(fresh: RunningApp) -> None:
    """A file that is deleted during a download is sent completely."""
    content = os.urandom(10 * MIB)
    file_id = fresh.upload(content)["file_id"]
    with fresh.http.stream("GET", f"/v1/files/{file_id}") as download:
        chunks = download.iter_raw(1024)
        received = [next(chunks)]
        with httpx.Client(base_url=fresh.http.base_url) as other:
            assert other.delete(f"/v1/files/{file_id}").status_code == 204
            assert other.get(f"/v1/files/{file_id}").status_code == 404
        assert fresh.on_disk() == set()
        received.extend(chunks)
    assert b"".join(received) == content


def test_downloads_close_their_files(fresh: RunningApp) -> None:
    """Whole, partial, conditional and broken downloads leave no file open."""
    url = f"/v1/files/{fresh.upload(os.urandom(10 * MIB))['file_id']}"
    part, behind = {"Range": "bytes=0-9"}, {"Range": "bytes=99999999-"}
    for headers in ({}, part, behind, {"If-None-Match": "*"}):
        fresh.http.get(url, headers=headers)
        fresh.http.head(url, headers=headers)
    with fresh.http.stream("GET", url) as download:
        next(download.iter_raw(1024))

    def still_open() -> list[str]:
        folder = str(fresh.settings.storage.file_storage_dir / "files")
        links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [link for link in links if link.startswith(folder)]

    assert soon(lambda: not still_open()), still_open()


# Deleting and listing --------------------------------------------------------------------------


def test_a_deleted_file_is_gone(fresh: RunningApp) -> None:
    """Deleting gives 204, later calls give 404, and the bytes are removed from the disk."""
    file_id = fresh.upload(b"1")["file_id"]
    response = fresh.http.delete(f"/v1/files/{file_id}")
    assert (response.status_code, response.content) == (204, b"")
    for method in ("GET", "HEAD", "DELETE"):
        assert fresh.http.request(method, f"/v1/files/{file_id}").status_code == 404
    assert fresh.on_disk() == set()


def test_the_list_has_pages(fresh: RunningApp) -> None:
    """The list is oldest first. Its pages have each file once, even if files are deleted between pages."""
    ids = [fresh.upload(b"1", f"{number}")["file_id"] for number in range(7)]
    everything = fresh.http.get("/v1/files").json()
    assert [file["file_id"] for file in everything["files"]] == ids
    assert everything["next"] is None
    seen, after = [], None
    while True:
        query = {"limit": "3"} | ({"after": after} if after else {})
        page = fresh.http.get("/v1/files", params=query).json()
        seen.append([file["file_id"] for file in page["files"]])
        fresh.http.delete(f"/v1/files/{seen[-1][-1]}")
        after = page["next"]
        if after is None:
            break
    assert seen == [ids[0:3], ids[3:6], ids[6:7]]
    assert fresh.http.get("/v1/files", params={"limit": "4"}).json()["next"] is None


@pytest.mark.parametrize("after", ["x", "%00", "bmFuIDE", "é", "' OR 1=1 --"])
def test_an_invalid_cursor_is_refused(api: RunningApp, after: str) -> None:
    """Only a cursor from an earlier page is accepted."""
    response = api.http.get("/v1/files", params={"after": after})
    assert response.status_code == 422
    assert response.json()["code"] == "invalid_cursor"


# Time and crashes ------------------------------------------------------------------------------


def test_files_expire(tmp_path: Path) -> None:
    """An expired file is not found, and its bytes are soon removed from the disk."""
    with serve_app(make_settings(tmp_path, file_ttl_sec=3), sweep_sec=0.2) as running:
        stored = running.upload(b"1")
        url = f"/v1/files/{stored['file_id']}"
        assert stored["expires_at"] == pytest.approx(stored["upload_time"] + 3)
        assert running.http.get(url).status_code == 200
        assert soon(lambda: running.on_disk() == set())
        assert time.time() >= stored["expires_at"]
        assert running.http.get(url).status_code == 404


def test_an_expired_file_is_not_found_before_the_next_sweep(tmp_path: Path) -> None:
    """No call finds an expired file, even before the sweep removes it."""
    with serve_app(make_settings(tmp_path, file_ttl_sec=1)) as running:
        url = f"/v1/files/{running.upload(b'1')['file_id']}"
        time.sleep(1.1)
        assert len(running.on_disk()) == 1
        assert running.http.get("/v1/files").json()["files"] == []
        for method in ("GET", "HEAD", "DELETE"):
            assert running.http.request(method, url).status_code == 404


def test_files_can_be_kept_without_expiry(tmp_path: Path) -> None:
    """With FILE_TTL_SEC=0 files never expire."""
    with serve_app(make_settings(tmp_path, file_ttl_sec=0)) as running:
        stored = running.upload(b"1")
        assert stored["expires_at"] is None
        running.sweep(time.time() + 10 * 365 * 86400)
        assert running.http.get(f"/v1/files/{stored['file_id']}").content == b"1"


def test_a_restart_keeps_files(tmp_path: Path) -> None:
    """Stored files keep their names, dates and bytes."""
    with serve_app(make_settings(tmp_path)) as running:
        running.upload(b"kept", "kept.csv")
        before = running.http.get("/v1/files").json()
    with serve_app(make_settings(tmp_path)) as running:
        assert running.http.get("/v1/files").json() == before
        (file,) = before["files"]
        assert running.http.get(f"/v1/files/{file['file_id']}").content == b"kept"


def test_a_sweep_removes_leftovers_of_crashes(fresh: RunningApp) -> None:
    """Old bytes without a row and old unfinished uploads are removed. New ones and foreign files stay."""
    root = fresh.settings.storage.file_storage_dir
    kept = fresh.upload(b"1")["file_id"]
    old, young = str(uuid.uuid4()), str(uuid.uuid4())
    for folder in ("files", "incoming"):
        for name in (old, young, "README"):
            (root / folder / name).write_bytes(b"left behind")
        hour_ago = time.time() - 3600
        os.utime(root / folder / old, (hour_ago, hour_ago))
    swept = fresh.sweep(time.time())
    assert (swept.orphans, swept.unfinished, swept.expired, swept.lost) == (1, 1, 0, 0)
    assert fresh.on_disk() == {kept, young, "README"}
    assert fresh.on_disk("incoming") == {young, "README"}


def test_a_sweep_removes_rows_without_bytes(fresh: RunningApp) -> None:
    """A file without bytes gives 404 at once, and the next sweep removes its row."""
    file_id = fresh.upload(b"1")["file_id"]
    (fresh.settings.storage.file_storage_dir / "files" / file_id).unlink()
    assert fresh.http.get(f"/v1/files/{file_id}").status_code == 404
    assert fresh.sweep(time.time()).lost == 1
    assert fresh.http.get("/v1/files").json()["files"] == []


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
