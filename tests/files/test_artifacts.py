"""Tests of the file store alone: saves that fail, are cancelled or find the disk full."""

import asyncio
import os
import resource
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from service.database.database import Database
from service.database.registries.file_registry import FileRegistry
from service.files.errors import StorageUnavailable
from service.files.open import open_storage
from service.files.store import FileStore
from service.operations.housekeeping import repeat
from service.settings.values import MIB
from sessions.errors import FileNotFound, FileTooLarge, RegistryUnavailable, StorageFull
from tests.routes.files_support import file_store
from tests.support.settings import make_settings

OWNER = "alice"


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    """Yield the content in pieces, as a network delivers it."""
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


def left_in(folder: Path) -> list[Path]:
    """Return every file below the folder, except the registry's own."""
    root = folder / "storage"
    return [path for path in root.rglob("*") if path.is_file() and path.parent != root]


async def test_a_saved_file_can_be_read(tmp_path: Path) -> None:
    """A file that an execution left keeps its origin, and can be read whole or in part."""
    async with file_store(make_settings(tmp_path)) as store:
        content = os.urandom(3 * MIB)
        stored = await store.save(
            chunks(content[:100], content[100:]),
            "out/chart.png",
            owner=OWNER,
            origin="display",
            execution_id="e1",
        )
        assert (stored.size_bytes, stored.media_type) == (3 * MIB, "image/png")
        assert (stored.origin, stored.execution_id) == ("display", "e1")
        assert await store.get(stored.file_id, OWNER) == stored
        assert (tmp_path / "storage/files" / stored.file_id).read_bytes() == content
        with await store.open(stored.file_id, OWNER) as file:
            assert b"".join([chunk async for chunk in file.chunks()]) == content
            part = b"".join([chunk async for chunk in file.chunks(MIB - 1, MIB + 1)])
            assert part == content[MIB - 1 : MIB + 1]


@pytest.mark.parametrize("size", [1, 3 * MIB], ids=["small", "large"])
async def test_a_failing_source_leaves_no_file(tmp_path: Path, size: int) -> None:
    """The caller gets the source's own error, whether or not bytes have reached the disk."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"x" * size
        raise ConnectionResetError("gone")

    async with file_store(make_settings(tmp_path)) as store:
        with pytest.raises(ConnectionResetError):
            await store.save(failing(), "a", owner=OWNER)
        assert left_in(tmp_path) == []


async def test_error_for_a_large_file_has_the_limit(tmp_path: Path) -> None:
    """The error has the limit in bytes, and its text gives it in MB."""
    async with file_store(make_settings(tmp_path, max_file_size_mb=2)) as store:
        with pytest.raises(FileTooLarge, match=r"^File size exceeds maximum of 2 MB$") as caught:
            await store.save(chunks(b"x" * 2 * MIB, b"x"), "a", owner=OWNER)
        assert caught.value.limit_bytes == 2 * MIB
        assert left_in(tmp_path) == []


async def test_a_cancelled_save_stores_the_whole_file_or_nothing(tmp_path: Path) -> None:
    """At whatever step the save is cancelled, the file is either complete and returned, or not stored."""
    async with file_store(make_settings(tmp_path)) as store:
        saved = 0
        for delay in range(120):
            task = asyncio.create_task(store.save(chunks(b"x" * MIB, b"y" * MIB), "a", owner=OWNER))
            await asyncio.sleep(delay / 10_000)
            task.cancel()
            try:
                await task
                saved += 1
            except asyncio.CancelledError:
                pass
            listed = (await store.list_files(OWNER, 1000)).files
            assert len(listed) == saved
            assert {path.name for path in left_in(tmp_path)} == {file.file_id for file in listed}
        assert saved < 120, "nothing was cancelled"


async def test_a_save_without_a_row_leaves_no_bytes(tmp_path: Path) -> None:
    """If the row cannot be written, the bytes are removed, because nothing would refer to them."""
    settings = make_settings(tmp_path)
    database = Database(settings.storage.registry_url)
    storage = open_storage(settings.storage)
    store = FileStore(storage, FileRegistry(database), MIB, None)
    await storage.prepare()
    with pytest.raises(RegistryUnavailable):  # its tables do not exist
        await store.save(chunks(b"x"), "a", owner=OWNER)
    assert left_in(tmp_path) == []
    await storage.close()
    await database.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 4 MiB. Tests are skipped where mounting is not permitted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_raises_storage_full_and_leaves_nothing(small_disk: Path) -> None:
    """ENOSPC becomes StorageFull, for bytes and for rows. Nothing is left, and a small file still fits."""
    async with file_store(make_settings(small_disk)) as store:
        for size in (60, 41):
            with pytest.raises(StorageFull):
                await store.save(chunks(*[b"x" * 100_000] * size), "big", owner=OWNER)
            assert left_in(small_disk) == []
        kept = await store.save(chunks(b"x" * MIB), "small", owner=OWNER)

        filler = small_disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 1024):
                pass
        with pytest.raises(StorageFull):
            await store.save(chunks(b""), "no bytes, but a row", owner=OWNER)
        assert left_in(small_disk) == [small_disk / "storage/files" / kept.file_id]
        filler.unlink()
        await store.save(chunks(b""), "no bytes, but a row", owner=OWNER)


async def test_a_limit_on_file_sizes_raises_storage_full(tmp_path: Path) -> None:
    """EFBIG, from a ulimit or the file system, becomes StorageFull too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with file_store(make_settings(tmp_path)) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, before[1]))
        try:
            with pytest.raises(StorageFull):
                await store.save(chunks(*[b"x" * MIB] * 3), "big", owner=OWNER)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert left_in(tmp_path) == []


@pytest.mark.parametrize("file_id", ["", "../x", "a/b", "\0", "x" * 36])
async def test_an_invalid_id_is_never_used_as_a_path(tmp_path: Path, file_id: str) -> None:
    """Text that is not an id is not found, and deleting it returns False."""
    async with file_store(make_settings(tmp_path)) as store:
        with pytest.raises(FileNotFound):
            await store.open(file_id, OWNER)
        assert await store.delete(file_id, OWNER) is False


async def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    """The error names the folder, the reason and the setting."""
    (tmp_path / "storage").write_text("a file where the folder should be")
    with pytest.raises(StorageUnavailable, match="FILE_STORAGE_DIR") as caught:
        async with file_store(make_settings(tmp_path)):
            pass
    assert str(tmp_path / "storage") in str(caught.value)


async def test_sweeper_continues_after_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A failed sweep is logged, and the next sweep works."""
    async with file_store(make_settings(tmp_path, file_ttl_sec=1)) as store:
        await store.save(chunks(b"x"), "a", owner=OWNER)
        folder, elsewhere = tmp_path / "storage" / "files", tmp_path / "away"
        folder.rename(elsewhere)
        sweeping = asyncio.create_task(repeat(lambda: store.sweep(time.time()), "sweeping the files", 0.05))
        await asyncio.sleep(0.2)
        assert "sweeping the files failed" in caplog.text
        elsewhere.rename(folder)
        await asyncio.sleep(2)
        assert left_in(tmp_path) == []
        assert not sweeping.done()
        sweeping.cancel()
        await asyncio.wait([sweeping])
