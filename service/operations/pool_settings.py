"""Converts the settings of the service to those of the pool, and describes its reuse of containers."""

from collections.abc import Mapping
from typing import Final

import service
from service.settings import Settings
from sessions.containers.launcher import LaunchSettings
from sessions.containers.pool.pool import PoolSettings
from sessions.containers.pool.recycler import ReuseLimits
from sessions.models import Limits

REUSE: Final[Mapping[str, str]] = {
    "tenant": "A container that was made as new serves the same API key again. Choose CONTAINER_REUSE=never "
    "if callers that share a key must not use the same container one after the other.",
    "never": "Each call and each session gets a new container. CONTAINER_REUSE=tenant answers many more "
    "calls a second.",
}
"""A sentence about each value of `CONTAINER_REUSE`. The banner and `/ready` show it."""


def pool_settings(settings: Settings, instance_id: str) -> PoolSettings:
    """Return the settings of the pool for the instance with the given id."""
    containers, pool = settings.containers, settings.pool
    limits = Limits(
        memory_bytes=settings.execution.container_share_bytes,
        cpus=containers.kernel_cpus,
        pids=containers.pids_limit,
        workspace_bytes=containers.workspace_bytes,
        tmp_bytes=containers.tmp_bytes,
        lease_sec=containers.lease_sec,
        idle_cpu_sec=settings.execution.idle_cpu_sec,
    )
    launch = LaunchSettings(
        image=containers.python_executor_docker_image,
        image_pull=containers.image_pull,
        version=service.__version__,
        instance_id=instance_id,
        preload=containers.kernel_preload,
        learn_bytes=containers.learn_bytes,
        limits=limits,
        runtime=containers.kernel_runtime,
    )
    reuse = ReuseLimits(pool.container_max_uses, pool.container_max_age_sec)
    return PoolSettings(
        launch,
        least_ready=pool.least_ready,
        most_ready=pool.most_ready,
        max_containers=pool.max_containers,
        queue_size=pool.queue_size,
        queue_timeout_sec=pool.queue_timeout_sec,
        reuse=reuse if pool.container_reuse == "tenant" else None,
    )
