"""Tests of the file API on a real S3 server: streaming, leftovers and failures of the storage."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from service.files.errors import ObjectStorageTaken, ObjectStorageUnavailable
from service.files.open import open_storage
from service.settings import Settings
from service.settings.values import MIB
from tests.routes.files_support import RunningApp, file_store, serve_app
from tests.support.object_storage import ObjectStorageServer
from tests.support.process import free_port
from tests.support.settings import make_settings
from tests.support.waiting import soon

PART = 5 * MIB
READ = 4 * MIB
OWNER = "default"


@pytest.fixture(scope="module", autouse=True)
def credentials(object_storage: ObjectStorageServer) -> Iterator[None]:
    """Set the credentials in the environment variables that AWS' own programs read."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in object_storage.settings("").items():
            if name.startswith("AWS_"):
                patch.setenv(name, value)
        yield


def stored_in(server: ObjectStorageServer, folder: Path, url: str, **changes: Any) -> Settings:
    """Return the settings of a service that stores its files below ``url``."""
    return make_settings(
        folder, file_storage_url=url, aws_endpoint_url=server.url, max_file_size_mb=64, **changes
    )


@pytest.fixture(scope="module")
def url(object_storage: ObjectStorageServer) -> str:
    """Return the URL below which the shared service stores its files."""
    return object_storage.new()


@pytest.fixture(scope="module")
def api(
    object_storage: ObjectStorageServer, url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningApp]:
    """Serve the file API with its files on the S3 server."""
    with serve_app(stored_in(object_storage, tmp_path_factory.mktemp("api"), url)) as running:
        yield running


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, 2 * PART, 13 * MIB + 7])
def test_bytes_come_back_exactly(api: RunningApp, size: int) -> None:
    """Small files are stored in one request, large ones in parts. The file's id is the object's name."""
    content = os.urandom(size)
    stored = api.upload(content, "naïve name.bin")
    answer = api.http.get(f"/v1/files/{stored['file_id']}")
    assert answer.content == content
    assert answer.headers["Content-Length"] == str(size)
    assert api.http.delete(f"/v1/files/{stored['file_id']}").status_code == 204


def test_a_range_gives_that_part(api: RunningApp) -> None:
    """A range may cross the blocks in which the service reads."""
    content = os.urandom(2 * READ + 5)
    file_id = api.upload(content)["file_id"]
    for start, end in ((0, 1), (READ - 1, READ + 1), (1, 2 * READ + 1), (2 * READ, 2 * READ + 5)):
        answer = api.http.get(f"/v1/files/{file_id}", headers={"Range": f"bytes={start}-{end - 1}"})
        assert (answer.status_code, answer.content) == (206, content[start:end])
    head = api.http.head(f"/v1/files/{file_id}")
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(content)))


def test_a_refused_upload_leaves_no_object(
    object_storage: ObjectStorageServer, api: RunningApp, url: str
) -> None:
    """A file found to be too large after parts were sent leaves no object and no parts."""
    before = object_storage.objects(url).keys()
    body = _endless(70 * MIB)
    answer = api.http.post(
        "/v1/files", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "file_too_large")
    assert soon(lambda: object_storage.unfinished(url) == 0)
    assert object_storage.objects(url).keys() == before


def _endless(size: int) -> Iterator[bytes]:
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    for _ in range(size // MIB):
        yield b"x" * MIB
    yield b"\r\n--b--\r\n"


def test_a_client_that_disconnects_leaves_nothing(
    object_storage: ObjectStorageServer, api: RunningApp, url: str
) -> None:
    """The client disconnects during an upload whose first parts are already stored."""
    before = object_storage.objects(url).keys()
    address = urlsplit(str(api.http.base_url))
    with socket.create_connection((address.hostname, address.port or 0)) as client:
        head = b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        client.sendall(head + b"Content-Length: 30000000\r\n\r\n")
        for piece in _endless(12 * MIB):
            if piece.startswith(b"\r\n"):
                break
            client.sendall(piece)
        assert soon(lambda: object_storage.unfinished(url) == 1)
    assert soon(lambda: object_storage.unfinished(url) == 0)
    assert object_storage.objects(url).keys() == before


async def test_a_cancelled_upload_leaves_nothing(object_storage: ObjectStorageServer, tmp_path: Path) -> None:
    """The upload is cancelled before the object exists, and after."""
    url = object_storage.new()

    async def slow(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // MIB):
            yield b"x" * MIB
        await asyncio.sleep(60)

    async with file_store(stored_in(object_storage, tmp_path, url)) as store:
        for size in (MIB, 12 * MIB):
            saving = asyncio.create_task(store.save(slow(size), "a", owner=OWNER))
            await asyncio.sleep(1)
            saving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await saving
    assert object_storage.unfinished(url) == 0
    assert object_storage.objects(url) == {}


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_a_sweep_removes_expired_and_orphaned_files(
    object_storage: ObjectStorageServer, tmp_path: Path
) -> None:
    """A sweep removes expired files, old objects without a row, and rows without an object."""
    url = object_storage.new()
    async with file_store(stored_in(object_storage, tmp_path, url, file_ttl_sec=3600)) as store:
        kept = await store.save(_once(b"kept"), "a", owner=OWNER)
        lost = await store.save(_once(b"lost"), "a", owner=OWNER)
        await store.storage.remove({lost.file_id})
        orphan = "files/" + kept.file_id[:-4] + "0000"
        object_storage.put(url, orphan, b"orphan")
        object_storage.put(url, "files/README", b"not ours")
        swept = await store.sweep(time.time())
        assert (swept.expired, swept.orphans, swept.lost) == (0, 0, 1)
        swept = await store.sweep(time.time() + 1000)
        assert (swept.expired, swept.orphans, swept.lost) == (0, 1, 0)
        assert object_storage.objects(url).keys() == {f"files/{kept.file_id}", "files/README"}
        swept = await store.sweep(time.time() + 4000)
        assert (swept.expired, swept.orphans, swept.lost) == (1, 0, 0)
        assert object_storage.objects(url).keys() == {"files/README"}


@pytest.mark.parametrize(
    ("status", "code", "answered", "reported"),
    [
        (507, "XMinioStorageFull", 507, "storage_full"),
        (403, "AccessDenied", 503, "storage_unavailable"),
        (500, "InternalError", 503, "storage_unavailable"),
    ],
)
def test_a_storage_failure_is_reported(
    object_storage: ObjectStorageServer, api: RunningApp, status: int, code: str, answered: int, reported: str
) -> None:
    """A full storage gives 507, other failures 503, for small and large files. Later calls work again."""
    with object_storage.refusing(status, code):
        for size in (10, 12 * MIB):
            answer = api.http.post("/v1/files", files={"file": ("a", b"x" * size)})
            assert (answer.status_code, answer.json()["code"]) == (answered, reported)
            assert urlsplit(object_storage.url).netloc not in answer.text
    file_id = api.upload(b"well")["file_id"]
    with object_storage.refusing(status, code):
        answer = api.http.get(f"/v1/files/{file_id}")
        assert answer.status_code in (503, 507), answer.text
    assert api.http.get(f"/v1/files/{file_id}").content == b"well"


def test_a_file_without_its_object_is_not_found(object_storage: ObjectStorageServer, api: RunningApp) -> None:
    """A file whose object was removed from the bucket gives 404, as a deleted file does."""
    file_id = api.upload(b"well")["file_id"]
    asyncio.run_coroutine_threadsafe(api.store.storage.remove({file_id}), api.loop).result(10)
    answer = api.http.get(f"/v1/files/{file_id}")
    assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")


def test_a_download_is_redirected_to_the_object(object_storage: ObjectStorageServer, tmp_path: Path) -> None:
    """The URL is signed and has the file's name. Without the signature the object is not readable."""
    settings = stored_in(object_storage, tmp_path, object_storage.new(), file_storage_link_sec=60)
    with serve_app(settings) as running:
        file_id = running.upload(b"0123456789", "naïve.csv")["file_id"]
        answer = running.http.get(f"/v1/files/{file_id}")
        assert answer.status_code == 307
        link = answer.headers["Location"]
        assert link.startswith(object_storage.url) and "X-Amz-Expires=60" in link
        found = httpx.get(link, headers={"Range": "bytes=2-4"})
        assert (found.status_code, found.content) == (206, b"234")
        assert "filename*=UTF-8''na%C3%AFve.csv" in found.headers["Content-Disposition"]
        assert running.http.get("/v1/files/" + "0" * 36).status_code in (404, 422)


async def test_an_unusable_storage_is_reported_at_the_start(
    object_storage: ObjectStorageServer, tmp_path: Path
) -> None:
    """A missing bucket, an unreachable server and another registry's prefix each give one sentence."""
    settings = stored_in(object_storage, tmp_path, "s3://there-is-none")
    storage = open_storage(settings.storage)
    with pytest.raises(ObjectStorageUnavailable, match="s3://there-is-none"):
        await storage.prepare()
    unreachable = make_settings(
        tmp_path, file_storage_url="s3://there-is-none", aws_endpoint_url=f"http://127.0.0.1:{free_port()}"
    )
    with pytest.raises(ObjectStorageUnavailable) as caught:
        await open_storage(unreachable.storage).prepare()
    assert "\n" not in str(caught.value)
    storage = open_storage(stored_in(object_storage, tmp_path, object_storage.new()).storage)
    for _ in range(2):
        await storage.claim("one")
    with pytest.raises(ObjectStorageTaken, match="another registry's"):
        await storage.claim("another")
