"""Tests of the disk of stored files: full, read-only or emptied while the service runs."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import LIGHT, serving
from tests.faults.conftest import canary, mounted, refused
from tests.support.process import Service

MIB = 1 << 20
WRITES = "with open('{name}', 'wb') as file: _ = file.write(b'x' * {size})"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mount a small disk."""
    with mounted(tmp_path_factory.mktemp("disk") / "small", "8m") as folder:
        yield folder


@pytest.fixture(scope="module")
def service(disk: Path, open_service: Callable[..., Service]) -> Iterator[Service]:
    """Return a service that stores files on the small disk and has its registry elsewhere."""
    registry = disk.parent / "registry.sqlite3"
    yield from serving(
        open_service,
        **LIGHT,
        POOL_SIZE=1,
        FILE_STORAGE_DIR=disk / "files",
        DATABASE_URL=f"sqlite:///{registry}",
    )


def test_a_full_disk_is_507_until_space_is_free(service: Service) -> None:
    """Uploads are refused and outputs listed as skipped. No partial file stays, and old files do."""
    kept = service.api.upload(b"k" * MIB)
    filler = [service.api.upload(b"f" * MIB) for _ in range(5)]
    response = service.api.http.post("/v1/files", files={"file": ("big", b"x" * 4 * MIB)})
    assert (response.status_code, response.json()["code"]) == (507, "storage_full")
    result = service.api.run(WRITES.format(name="big.bin", size=4 * MIB))
    assert (result["exit_code"], result["files"]) == (0, [])
    (skipped,) = result["skipped_files"]
    assert skipped["path"] == "big.bin" and "no space left" in skipped["reason"]
    canary(service, {kept: b"k" * MIB})
    for file_id in filler:
        assert service.api.http.delete(f"/v1/files/{file_id}").status_code == 204
    assert len(service.api.run(WRITES.format(name="big.bin", size=4 * MIB))["files"]) == 1
    canary(service, {kept: b"k" * MIB})
    for file in service.api.http.get("/v1/files").json()["files"]:
        service.api.http.delete(f"/v1/files/{file['file_id']}")


def test_a_disk_that_becomes_read_only_is_reported(service: Service, disk: Path) -> None:
    """Stored files can be read. New files are refused with an error code."""
    kept = service.api.upload(b"kept")
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=True)
        response = service.api.http.post("/v1/files", files={"file": ("late", b"late")})
        assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")
        result = service.api.run(WRITES.format(name="late.txt", size=4))
        (skipped,) = result["skipped_files"]
        assert (result["files"], skipped["path"]) == ([], "late.txt")
        assert service.api.download(kept) == b"kept"
        assert "Cannot store files" in refused(disk / "another")
        assert service.api.http.delete(f"/v1/files/{kept}").status_code in (204, 503)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    canary(service)


def test_files_removed_from_outside_are_not_found(service: Service, disk: Path) -> None:
    """A cleaner of temporary files removes folders too. They are made again, and lost files give 404."""
    deleted = service.api.upload(b"gone")
    for folder in (disk / "files").iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    assert service.api.http.get(f"/v1/files/{deleted}").status_code == 404
    stage = {"path": "in.txt", "file_id": deleted}
    assert service.api.execute("1", files=[stage]).status_code == 404
    kept = service.api.upload(b"kept")
    canary(service, {kept: b"kept"})
