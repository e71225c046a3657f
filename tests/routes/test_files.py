"""Tests of stored files over real HTTP: their ids, the list, deletion, expiry and sweeps."""

import os
import time
import uuid
from pathlib import Path

import pytest

from tests.routes.files_support import RunningApp, serve_app
from tests.support.settings import make_settings
from tests.support.waiting import soon

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
