"""Stored files that somebody changes on the disk or in the object storage are never served."""

import hashlib
import os
import random
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from service.database.database import Database
from service.database.registries.file_registry import FileRegistry
from service.files.digest import BLOCK_BYTES, SMALL_BYTES, Digest
from service.files.disk import Disk
from service.files.object_storage import ObjectStorage
from service.files.storage import Storage
from service.files.store import FileStore
from sessions.errors import FileDamaged, FileNotFound
from sessions.records import StoredFile
from tests.support.databases import execute
from tests.support.object_storage import ObjectStorageServer
from tests.support.process import Service

OWNER = "default"
LARGE_BYTES = SMALL_BYTES + 3 * BLOCK_BYTES


async def pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    """Yield the content in pieces of a size."""
    for at in range(0, len(content), size):
        yield content[at : at + size]


@pytest.mark.parametrize("size", [0, 1, SMALL_BYTES, SMALL_BYTES + 1, LARGE_BYTES, 3 * SMALL_BYTES + 7])
@pytest.mark.parametrize("piece", [997, BLOCK_BYTES, SMALL_BYTES, 5 * SMALL_BYTES])
def test_digests_do_not_depend_on_the_pieces(size: int, piece: int) -> None:
    """The first and the last block have the same digest however the bytes arrive."""
    content = random.Random(size).randbytes(size)
    digest = Digest()
    for at in range(0, size, piece):
        digest.update(content[at : at + piece])
    assert digest.size_bytes == size
    assert digest.sha256 == hashlib.sha256(content).hexdigest()
    ends = content[:BLOCK_BYTES] + content[-BLOCK_BYTES:]
    assert digest.ends_sha256 == (hashlib.sha256(ends).hexdigest() if size > SMALL_BYTES else None)


def flip(at: int) -> Callable[[Path], None]:
    """Return a change of one byte; a negative place counts from the end."""

    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)

    return change


def truncate(path: Path) -> None:
    """Cut the last byte off."""
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    """Cut everything off."""
    os.truncate(path, 0)


def append(path: Path) -> None:
    """Add a byte."""
    path.write_bytes(path.read_bytes() + b"x")


def replace_by_link(path: Path) -> None:
    """Put a link to another file in the place."""
    other = path.with_name("other")
    path.rename(other)
    path.symlink_to(other)


def replace_by_pipe(path: Path) -> None:
    """Put a pipe in the place, which nobody writes to."""
    path.unlink()
    os.mkfifo(path)


def replace_by_folder(path: Path) -> None:
    """Put a folder in the place."""
    path.unlink()
    path.mkdir()


IRREGULAR = (replace_by_link, replace_by_pipe, replace_by_folder)
SMALL = {
    "middle": flip(500),
    "first byte": flip(0),
    "last byte": flip(-1),
    "truncated": truncate,
    "empty": empty,
    "longer": append,
    **{change.__name__: change for change in IRREGULAR},
}
LARGE = {name: change for name, change in SMALL.items() if name != "middle"} | {
    "end of the first block": flip(BLOCK_BYTES - 1),
    "start of the last block": flip(-BLOCK_BYTES),
}


@pytest.mark.parametrize(
    ("size", "name"), [*((1000, name) for name in SMALL), *((LARGE_BYTES, name) for name in LARGE)]
)
def test_file_that_was_changed_on_the_disk_is_not_served(size: int, name: str, service: Service) -> None:
    """Downloads, ranges, HEAD and executions get an error that names the file. Nothing hangs."""
    content = os.urandom(size)
    file_id = service.api.upload(content)
    assert service.api.download(file_id) == content
    (SMALL | LARGE)[name](service.storage / "files" / file_id)
    url = f"/v1/files/{file_id}"
    for headers in ({}, {"Range": "bytes=10-20"}, {"Range": "bytes=-5"}):
        answer = service.api.http.get(url, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (409, "file_damaged"), answer.text
        assert file_id in answer.json()["detail"]
    assert service.api.http.head(url).status_code == 409
    used = service.api.execute("print(1)", files=[{"path": "a", "file_id": file_id}])
    assert (used.status_code, used.json()["code"]) == (409, "file_damaged"), used.text
    assert service.api.run("print(6 * 7)")["stdout"] == "42\n"
    path = service.storage / "files" / file_id
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.with_name("other").unlink(missing_ok=True)
    assert service.api.http.delete(url).status_code == 204


def test_change_in_the_middle_of_a_large_file_is_not_noticed(service: Service) -> None:
    """The digest covers the first and the last block alone, so a change between them is not found."""
    content = bytearray(os.urandom(LARGE_BYTES))
    file_id = service.api.upload(bytes(content))
    flip(LARGE_BYTES // 2)(service.storage / "files" / file_id)
    content[LARGE_BYTES // 2] ^= 1
    assert service.api.download(file_id) == bytes(content)
    service.api.http.delete(f"/v1/files/{file_id}")


def test_large_file_of_an_earlier_version_is_read_through_once(service: Service) -> None:
    """Without the digest of its ends, a change in the middle is noticed at the first download."""
    url = f"sqlite:///{service.storage / 'registry.sqlite3'}"
    content = os.urandom(LARGE_BYTES)
    whole, changed = service.api.upload(content), service.api.upload(content)
    ((ends,),) = execute(url, "SELECT ends_sha256 FROM files WHERE file_id = :id", id=whole)
    for file_id in (whole, changed):
        execute(url, "UPDATE files SET ends_sha256 = NULL WHERE file_id = :id", id=file_id)
    flip(LARGE_BYTES // 2)(service.storage / "files" / changed)
    assert service.api.http.get(f"/v1/files/{changed}").status_code == 409
    assert service.api.download(whole) == content
    assert execute(url, "SELECT ends_sha256 FROM files WHERE file_id = :id", id=whole) == [(ends,)]
    assert execute(url, "SELECT ends_sha256 FROM files WHERE file_id = :id", id=changed) == [(None,)]
    for file_id in (whole, changed):
        service.api.http.delete(f"/v1/files/{file_id}")


@pytest.fixture(params=["folder", "object storage"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Return a folder, and an object storage."""
    if request.param == "folder":
        return Disk(tmp_path / "storage")
    server: ObjectStorageServer = request.getfixturevalue("object_storage")
    for name, value in server.settings("").items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return ObjectStorage(server.new(), server.url)


@pytest.mark.parametrize("size", [0, 1, 1000, SMALL_BYTES, SMALL_BYTES + 1, 7 * SMALL_BYTES])
async def test_unchanged_files_of_every_size_are_served(size: int, storage: Storage, tmp_path: Path) -> None:
    """In a folder and in an object storage, whole and in part; a replaced file is refused in both."""
    database = Database(f"sqlite:///{tmp_path / 'registry.sqlite3'}")
    await database.migrate()
    await storage.prepare()
    store = FileStore(storage, FileRegistry(database), 100 * SMALL_BYTES, None)
    content = random.Random(size).randbytes(size)
    stored = await store.save(pieces(content, 100_000), "a", owner=OWNER)
    with await store.open(stored.file_id, OWNER) as file:
        assert b"".join([chunk async for chunk in file.chunks()]) == content
        start, end = size // 3, size // 2
        assert b"".join([chunk async for chunk in file.chunks(start, end)]) == content[start:end]
    await replace(storage, stored, content[:-1] + b"x" if size else b"x")
    with pytest.raises(FileDamaged, match=stored.file_id):
        await store.open(stored.file_id, OWNER)
    with pytest.raises(FileNotFound):
        await store.open(str(uuid.uuid4()), OWNER)
    await storage.close()
    await database.close()


async def replace(storage: Storage, stored: StoredFile, content: bytes) -> None:
    """Store other bytes under the id of a file."""
    draft = storage.draft(stored.file_id, "a")
    await draft.write([content])
    await draft.publish([])
