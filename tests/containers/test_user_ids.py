"""No two containers of an engine run code as the same uid, whichever service has created them."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from kernel_image import contract
from sessions.containers.docker.address import find_engine
from sessions.containers.docker.engine import DockerEngine
from sessions.containers.errors import LaunchFailed
from sessions.models import ContainerSpec, Limits
from tests.conftest import StartService, docker_only
from tests.support.engine import IMAGE, Engine
from tests.support.process import Service

pytestmark = docker_only("a pod takes a uid at random: several engines run the pods of a cluster")

FREE: range = range(64_000, 64_006)
"""uids that no service on this engine uses."""
MIB = 1 << 20
LIMITS = Limits(
    512 * MIB, cpus=0.5, pids=64, workspace_bytes=16 * MIB, tmp_bytes=16 * MIB, lease_sec=60, idle_cpu_sec=5
)


@pytest.fixture
async def engines(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[DockerEngine]]:
    """Connect two services to the engine. There are six uids in all. Remove their containers at the end."""
    assert engine
    monkeypatch.setattr(contract, "USER_IDS", FREE)
    opened = [DockerEngine(find_engine(None), registry_id=uuid.uuid4().hex) for _ in range(2)]
    await opened[0].prepare()
    yield opened
    for one in opened:
        for container_id in await one.running("test"):
            await one.remove(container_id)
        await one.close()


async def launch(engine: DockerEngine) -> int | None:
    """Launch a container, and return its uid."""
    spec = ContainerSpec(IMAGE, "test", "token", (), LIMITS)
    return (await engine.launch(spec)).user_id


async def test_services_that_launch_at_once_get_other_uids(engines: list[DockerEngine]) -> None:
    """Six launches by two services get six uids. The next one fails, until a container is removed."""
    user_ids = await asyncio.gather(*(launch(engine) for engine in engines for _ in range(3)))
    assert len(user_ids) == len(FREE)
    assert set(user_ids) == set(FREE)
    with pytest.raises(LaunchFailed, match="use all 6 uids from 64000 to 64005"):
        await launch(engines[0])
    removed = min(await engines[1].running("test"))
    await engines[1].remove(removed)
    assert await launch(engines[0]) in FREE


def test_containers_of_running_services_have_uids_of_their_own(
    service: Service, start_service: StartService, engine: Engine
) -> None:
    """The uids of all containers differ, and the code runs as the uid of its container's label."""
    other = start_service(POOL_SIZE=2)
    labels = [
        engine.inspect(container_id)["Config"]["Labels"][contract.USER_LABEL]
        for one in (service, other)
        for container_id in one.settle(at_target=False)
    ]
    assert len(labels) >= 3
    assert len(set(labels)) == len(labels)
    assert {int(label) for label in labels} <= set(contract.USER_IDS)
    assert service.api.run("import os; print(os.getuid())")["stdout"].strip() in labels
