"""Replicas: real processes that share PostgreSQL, an S3 server and the engine."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conftest import LIGHT
from tests.support.object_storage import ObjectStorageServer
from tests.support.postgres import Postgres
from tests.support.process import Service

SECRET = "known-to-all-of-them"
LEASE_SEC = 3


@dataclass
class Group:
    """Replicas of one service, each with its own instance id."""

    open_service: Callable[..., Service]
    shared: dict[str, Any]
    members: list[Service] = field(default_factory=list)

    def start(self, **settings: Any) -> Service:
        """Start another replica."""
        own = {"INSTANCE_ID": f"replica-{uuid.uuid4().hex[:8]}"}
        service = self.open_service(**LIGHT, **self.shared | own | settings)
        self.members.append(service)
        return service

    def finish(self) -> None:
        """Stop all replicas, and fail if one leaves a container."""
        for service in self.members:
            if service.running:
                service.stop()
        for service in self.members:
            service.finish()


@pytest.fixture(scope="session")
def new_group(
    open_service: Callable[..., Service], postgres: Postgres, object_storage: ObjectStorageServer
) -> Callable[..., Group]:
    """Return a function that makes groups, each with its own database and storage prefix."""

    def make(**settings: Any) -> Group:
        shared = {
            "DATABASE_URL": postgres.new(),
            **object_storage.settings(object_storage.new()),
            "REPLICA_SECRET": SECRET,
            "REPLICA_LEASE_SEC": LEASE_SEC,
            "POOL_SIZE": 1,
            "MAX_EXEC_TIMEOUT_MS": 60_000,
            "CPU_TIME_LIMIT_SEC": 30,
            "MAX_FILE_SIZE_MB": 128,
            **settings,
        }
        return Group(open_service, shared)

    return make


def standing(made: Group) -> Iterator[Group]:
    """Open a group of two replicas, yield it and close it; for `yield from` in a fixture."""
    try:
        made.start()
        made.start()
        yield made
    finally:
        made.finish()


@pytest.fixture(scope="module")
def group(new_group: Callable[..., Group]) -> Iterator[Group]:
    """Return a group of two replicas that no test stops."""
    yield from standing(new_group())
