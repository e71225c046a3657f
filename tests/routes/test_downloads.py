"""Tests of downloads over real HTTP: ranges, conditions, and descriptors."""

import os
from pathlib import Path

import httpx
import pytest

from service.settings.values import MIB
from tests.routes.files_support import RunningApp
from tests.support.waiting import soon


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
    part, beyond = {"Range": "bytes=0-9"}, {"Range": "bytes=99999999-"}
    for headers in ({}, part, beyond, {"If-None-Match": "*"}):
        fresh.http.get(url, headers=headers)
        fresh.http.head(url, headers=headers)
    with fresh.http.stream("GET", url) as download:
        next(download.iter_raw(1024))

    def still_open() -> list[str]:
        folder = str(fresh.settings.storage.file_storage_dir / "files")
        links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [link for link in links if link.startswith(folder)]

    assert soon(lambda: not still_open()), still_open()
