"""Rows of files, on real SQLite and PostgreSQL: they survive, and pages are complete."""

import time
import uuid

import pytest

from service.database.database import Database
from service.database.errors import InvalidCursor
from service.database.registries.file_registry import FileRegistry
from sessions.errors import FileNotFound
from sessions.records import ONE_TENANT, StoredFile
from tests.support.records import stored_file


@pytest.fixture
def url(database_url: str) -> str:
    """The URL of a registry that does not exist yet."""
    return database_url


@pytest.fixture
def files(database: Database) -> FileRegistry:
    """The rows of files in an empty registry."""
    return FileRegistry(database)


async def test_file_keeps_every_field(files: FileRegistry, url: str) -> None:
    """A second connection to the same database reads the same record."""
    stored = [
        stored_file(time.time(), expires_at=time.time() + 0.1, origin="output", execution_id="e"),
        stored_file(0.1 + 0.2),
    ]
    for file in stored:
        await files.add(file)
    other = Database(url)
    assert [await FileRegistry(other).get(file.file_id, ONE_TENANT) for file in stored] == stored
    await other.close()


async def test_unknown_file_is_not_found(files: FileRegistry) -> None:
    """The error has the id, and a deletion returns None."""
    with pytest.raises(FileNotFound) as caught:
        await files.get("nothing", ONE_TENANT)
    assert caught.value.file_id == "nothing"
    assert await files.delete("nothing") is None


async def test_deletion_returns_the_file_once(files: FileRegistry) -> None:
    """A second deletion returns None."""
    file = stored_file()
    await files.add(file)
    assert await files.delete(file.file_id) == file
    assert await files.delete(file.file_id) is None
    assert await files.all_ids() == set()


async def test_pages_list_every_file_once(files: FileRegistry) -> None:
    """Files of the same time are not lost between two pages, for any size of a page."""
    stored = [stored_file(created_at) for created_at in (3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 0.1 + 0.2)]
    for file in stored:
        await files.add(file)
    expected = sorted(stored, key=lambda file: (file.created_at, file.file_id))
    assert (await files.page(ONE_TENANT, 100)).files == tuple(expected)
    for limit in range(1, 9):
        listed: list[StoredFile] = []
        page = await files.page(ONE_TENANT, limit)
        while page.next is not None:
            assert len(page.files) == limit
            listed.extend(page.files)
            page = await files.page(ONE_TENANT, limit, page.next)
        assert [*listed, *page.files] == expected


async def test_expired_files_are_not_listed(files: FileRegistry) -> None:
    """A file expires at its time, not after it; a file without one never expires."""
    old, new = stored_file(1.0, expires_at=10.0), stored_file(2.0, expires_at=10.5)
    forever = stored_file(3.0)
    for file in (old, new, forever):
        await files.add(file)
    assert (await files.page(ONE_TENANT, 100, now=10.0)).files == (new, forever)
    assert await files.expired(10.0) == [old.file_id]
    assert await files.expired(9.9) == []


@pytest.mark.parametrize("cursor", ["", "x", "é", "bmFuIDE", "MS4wIHg", "=" * 9, "A" * 201])
async def test_invalid_cursor_is_refused(files: FileRegistry, cursor: str) -> None:
    """A text that no page gave is an error, not a guess."""
    with pytest.raises(InvalidCursor):
        await files.page(ONE_TENANT, 5, cursor)


async def test_known_returns_the_ids_that_have_a_row(files: FileRegistry) -> None:
    """The number of ids has no limit."""
    file = stored_file()
    await files.add(file)
    unknown = {str(uuid.uuid4()) for _ in range(2000)}
    assert await files.known(unknown | {file.file_id}) == {file.file_id}
    assert await files.known(set()) == set()
