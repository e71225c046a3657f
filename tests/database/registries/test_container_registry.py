"""Rows of containers, on real SQLite and PostgreSQL."""

from dataclasses import replace

import pytest

from service.database.database import Database
from service.database.registries.container_registry import ContainerRegistry
from tests.support.records import BOX, container


@pytest.fixture
def url(database_url: str) -> str:
    """The URL of a registry that does not exist yet."""
    return database_url


async def test_container_is_live_until_it_is_removed(database: Database, url: str) -> None:
    """An instance lists its own containers, with all fields that a connection to the kernel needs."""
    containers = ContainerRegistry(database, "one", BOX)
    own, removed = container(created_at=1.0), container(created_at=2.0)
    foreign = container(instance_id="two")
    for record in (own, removed, foreign):
        await containers.add(record)
    await containers.mark_removed(removed.container_id, 5.0)
    await containers.mark_removed("nothing", 5.0)
    other = Database(url)
    found = ContainerRegistry(other, "one", BOX)
    assert await found.live() == [own.container_id]
    assert await ContainerRegistry(other, "two", BOX).live() == [foreign.container_id]
    assert await found.get_container(own.container_id) == own
    assert await found.get_container(removed.container_id) is None
    await other.close()


async def test_new_kernel_changes_the_key_of_its_container_alone(database: Database) -> None:
    """A removed container and an unknown one are not found."""
    containers = ContainerRegistry(database, "one", BOX)
    record, other = container(), container()
    for added in (record, other):
        await containers.add(added)
    await containers.update_container_key(record.container_id, "new key")
    await containers.update_container_key("nothing", "new key")
    assert await containers.get_container(record.container_id) == replace(record, kernel_key="new key")
    assert await containers.get_container(other.container_id) == other
    await containers.mark_removed(other.container_id, 5.0)
    await containers.update_container_key(other.container_id, "new key")
    assert await containers.get_container(other.container_id) is None
    assert await containers.get_container("nothing") is None


def test_repr_of_a_container_shows_no_secret() -> None:
    """A log line with a container has neither its token nor its key."""
    assert "secret" not in repr(container())
