"""The key of the registry's secrets, and rows that somebody has changed, on real SQLite and PostgreSQL."""

import asyncio
import os
import signal
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from service.database.database import Database
from service.database.errors import KeyUnavailable
from service.database.registries.container_registry import ContainerRegistry
from service.database.registry_key import adopt_key, find_key
from service.database.secret_box import SecretBox
from service.private_paths.trust import NotPrivate
from sessions.errors import SecretUnreadable
from sessions.records import ContainerRecord
from tests.database.killed_migration import kill_after
from tests.support.databases import execute, insert
from tests.support.records import BOX, container

OTHER_BOX = SecretBox("another key of the registry")
SOMEBODY = 54_321


@pytest.fixture
def url(database_url: str) -> str:
    """The URL of a registry that does not exist yet."""
    return database_url


@pytest.fixture
async def stored(database: Database) -> tuple[ContainerRegistry, list[ContainerRecord]]:
    """Return two containers, and the registry that they are in."""
    containers = ContainerRegistry(database, "one", BOX)
    records = [container(token=letter * 64, kernel_key=letter.upper() * 64) for letter in "tu"]
    for record in records:
        await containers.add(record)
    return containers, records


async def test_secrets_are_encrypted_until_the_container_is_removed(
    stored: tuple[ContainerRegistry, list[ContainerRecord]], url: str
) -> None:
    """No column has a secret in plain, the same secret looks different each time, and removal deletes it."""
    containers, (first, second) = stored
    await containers.update_container_key(second.container_id, first.kernel_key)
    rows = execute(url, "SELECT token, kernel_key FROM containers")
    assert len({value for row in rows for value in row}) == 4
    assert all(first.token not in value and first.kernel_key not in value for row in rows for value in row)
    assert all(len(value) <= 128 for row in rows for value in row)
    await containers.mark_removed(second.container_id, 5.0)
    assert execute(
        url, "SELECT token, kernel_key FROM containers WHERE container_id = :id", id=second.container_id
    ) == [("", "")]
    assert await containers.get_container(first.container_id) == first


@pytest.mark.parametrize(
    "change",
    [
        "token = (SELECT token FROM containers WHERE container_id = :other)",
        "kernel_key = (SELECT kernel_key FROM containers WHERE container_id = :other)",
        "token = kernel_key",
        "address = '203.0.113.7'",
        "supervisor_port = 1",
        "shell_port = iopub_port, iopub_port = shell_port",
        "token = ''",
        "token = '1.'",
        "token = '1.AAAA'",
        "token = '1.=\N{SNOWMAN}'",
        "token = 'in plain, as an earlier version wrote it'",
        "kernel_key = substr(kernel_key, 1, 100)",
    ],
)
async def test_changed_row_cannot_be_read(
    change: str, stored: tuple[ContainerRegistry, list[ContainerRecord]], url: str
) -> None:
    """A secret is bound to its row, and a token to the address that it is sent to."""
    containers, (first, second) = stored
    execute(
        url,
        f"UPDATE containers SET {change} WHERE container_id = :id",
        id=first.container_id,
        **({"other": second.container_id} if ":other" in change else {}),
    )
    with pytest.raises(SecretUnreadable, match="REGISTRY_KEY"):
        await containers.get_container(first.container_id)
    assert await containers.get_container(second.container_id) == second


async def test_each_changed_character_of_a_secret_is_noticed(
    stored: tuple[ContainerRegistry, list[ContainerRecord]], url: str
) -> None:
    """No part of an encrypted value is without effect."""
    containers, (first, _) = stored
    ((sealed,),) = execute(
        url, "SELECT token FROM containers WHERE container_id = :id", id=first.container_id
    )
    for at in range(0, len(sealed) - 1, 7):
        changed = sealed[:at] + ("A" if sealed[at] != "A" else "B") + sealed[at + 1 :]
        execute(
            url,
            "UPDATE containers SET token = :token WHERE container_id = :id",
            token=changed,
            id=first.container_id,
        )
        with pytest.raises(SecretUnreadable):
            await containers.get_container(first.container_id)


async def test_another_key_is_noticed_once(database: Database) -> None:
    """The start after a change says so, and secrets of before cannot be read."""
    record = container()
    await ContainerRegistry(database, "one", BOX).add(record)
    assert [await adopt_key(database, box) for box in (BOX, BOX, OTHER_BOX, OTHER_BOX)] == [
        *(False, False),
        *(True, False),
    ]
    with pytest.raises(SecretUnreadable):
        await ContainerRegistry(database, "one", OTHER_BOX).get_container(record.container_id)


def add_plain(url: str, removed_at: float | None) -> ContainerRecord:
    """Add a container as earlier versions did."""
    record = container(token=os.urandom(32).hex(), kernel_key=os.urandom(32).hex(), removed_at=removed_at)
    insert(url, "containers", **asdict(record))
    return record


async def test_secrets_of_an_earlier_version_are_encrypted(database: Database, url: str) -> None:
    """Running containers stay known, removed ones lose their secrets, and the file has none in plain."""
    live, gone = add_plain(url, None), add_plain(url, 5.0)
    assert not await adopt_key(database, BOX)
    containers = ContainerRegistry(database, "one", BOX)
    assert await containers.get_container(live.container_id) == live
    everything = "SELECT container_id, token, kernel_key FROM containers ORDER BY container_id"
    once = execute(url, everything)
    assert (gone.container_id, "", "") in once
    assert not await adopt_key(database, BOX)
    assert (
        execute(url, "SELECT container_id, token, kernel_key FROM containers ORDER BY container_id") == once
    )
    if (file := database.file) is not None:
        for path in file.parent.iterdir():
            content = path.read_bytes()
            for secret in (live.token, live.kernel_key):
                assert secret.encode() not in content, path


async def test_secrets_in_plain_are_not_accepted_later(database: Database, url: str) -> None:
    """A person who adds a row later cannot make the service trust its secrets."""
    await adopt_key(database, BOX)
    added = add_plain(url, None)
    assert not await adopt_key(database, BOX)
    with pytest.raises(SecretUnreadable):
        await ContainerRegistry(database, "one", BOX).get_container(added.container_id)


async def test_simultaneous_starts_agree(database: Database, url: str) -> None:
    """Replicas that start together encrypt each secret once."""
    live = [add_plain(url, None) for _ in range(3)]
    others = [Database(url) for _ in range(4)]
    await asyncio.gather(*(adopt_key(other, BOX) for other in others))
    for other in others:
        await other.close()
    containers = ContainerRegistry(database, "one", BOX)
    for record in live:
        assert await containers.get_container(record.container_id) == record


def test_start_that_is_killed_encrypts_everything_or_nothing(database_url: str) -> None:
    """It is killed after each of its statements. The next start encrypts what is left."""

    async def adopt(then: Callable[[Database], object] = lambda _: None) -> None:
        database = Database(database_url)
        await database.migrate()
        then(database)
        await adopt_key(database, BOX)
        await database.close()

    async def migrate() -> None:
        database = Database(database_url)
        await database.migrate()
        await database.close()

    asyncio.run(migrate())
    added = [add_plain(database_url, removed_at) for removed_at in (None, None, 5.0)]
    number, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        number += 1
        child = os.fork()
        if child == 0:
            asyncio.run(adopt(lambda _, number=number: kill_after(number)))  # type: ignore[misc]
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        tokens = {token for (token,) in execute(database_url, "SELECT token FROM containers")}
        plain = tokens & {record.token for record in added}
        assert len(plain) == (3 if status else 0)
    assert status == 0 and number > 2


# The key's file ------------------------------------------------------------------------------------


def key_of(file: Path, storage: Path) -> str:
    """Return the key of a file for a service without other keys."""
    return find_key(None, None, file, storage, storage / "registry.sqlite3").text


def test_given_keys_come_first(tmp_path: Path) -> None:
    """REGISTRY_KEY, then REPLICA_SECRET; then no file is created."""
    file = tmp_path / "key"
    storage = tmp_path / "storage"
    assert find_key("a" * 16, "b" * 16, file, storage, None).text == "a" * 16
    assert find_key(None, "b" * 16, file, storage, None).text == "b" * 16
    assert list(tmp_path.iterdir()) == []
    assert "a" * 16 not in repr(find_key("a" * 16, None, file, storage, None))


def test_key_file_is_created_once_and_private(tmp_path: Path) -> None:
    """Services that start together get the same key, whatever the umask is."""
    file = tmp_path / "state" / "registry.key"
    before = os.umask(0)
    try:
        with ThreadPoolExecutor(8) as threads:
            keys = set(threads.map(lambda _: key_of(file, tmp_path / "storage"), range(8)))
    finally:
        os.umask(before)
    (key,) = keys
    assert len(key) >= 40
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert list(file.parent.iterdir()) == [file]
    file.chmod(0o644)
    assert key_of(file, tmp_path / "storage") == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("place", ["storage/key", "storage/deep/key", "link/key", "storage/../storage/key"])
def test_key_file_beside_the_registry_is_refused(place: str, tmp_path: Path) -> None:
    """A copy of the registry must not contain the key."""
    storage = tmp_path / "storage"
    storage.mkdir(0o700)
    (tmp_path / "link").symlink_to("storage")
    with pytest.raises(KeyUnavailable, match="REGISTRY_KEY"):
        key_of(tmp_path / place, storage)
    with pytest.raises(KeyUnavailable, match="beside the registry"):
        find_key(None, None, tmp_path / "key", storage, tmp_path / "registry.sqlite3")
    assert list(storage.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"short\n", b" " * 100])
def test_damaged_key_file_is_refused(content: bytes, tmp_path: Path) -> None:
    """An empty file is not replaced, because the key may be in a backup."""
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(KeyUnavailable, match="restore it, or remove it") as caught:
        key_of(file, tmp_path / "storage")
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    assert file.read_bytes() == content


def test_key_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Also one that root has created and other users can read, unless this user can make it private."""
    if os.geteuid():
        pytest.skip("this user may not give files away")
    file = tmp_path / "key"
    file.write_text("k" * 40)
    os.chown(file, SOMEBODY, -1)
    with pytest.raises(NotPrivate, match=f"belongs to user {SOMEBODY}"):
        key_of(file, tmp_path / "storage")


def test_key_file_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    """The error names the file, the reason and the settings."""
    (tmp_path / "file").touch()
    with pytest.raises(KeyUnavailable, match="Not a directory; set REGISTRY_KEY"):
        key_of(tmp_path / "file" / "key", tmp_path / "storage")
