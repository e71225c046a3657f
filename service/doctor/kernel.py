"""Launches a kernel as the service does, applies the isolation checks, and exceeds its limits."""

import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from service.doctor import limits, machine
from service.doctor.finding import Finding
from service.operations.pool_settings import pool_settings
from service.settings import Settings
from sessions.containers.engine import Engine
from sessions.containers.errors import ImageNotFound
from sessions.containers.pool.pool import Pool
from sessions.containers.sandbox import Sandbox
from sessions.errors import SessionsError
from sessions.isolation.limit_checks import exceed_limits
from sessions.isolation.self_test import examine
from sessions.kernels.connection import Connection
from sessions.models import ContainerSpec

JudgeRoom = Callable[[ContainerSpec], Sequence[Finding]]
"""Judges whether there is room for as many containers of a spec as the settings allow."""


async def check_kernel(
    engine: Engine, settings: Settings, judge_room: JudgeRoom, help_: str
) -> list[Finding]:
    """Launch a kernel, check it, and remove it. `help_` says what to do if it does not start."""
    found: list[Finding] = []

    async def look(sandbox: Sandbox, spec: ContainerSpec) -> None:
        with machine.open_listener() as listener:
            checks = await examine(engine, sandbox, spec, listener.getsockname()[1])
        found.extend(limits.judge_isolation(checks))
        share_bytes = settings.execution.container_share_bytes
        exceeded = await exceed_limits(sandbox, spec.limits, share_bytes, engine.unsupported_features)
        found.extend(limits.judge_limits(exceeded, spec.limits))
        found.extend(judge_room(spec))

    usual = pool_settings(settings, f"doctor-{uuid.uuid4().hex}")
    alone = replace(usual, launch=replace(usual.launch, image_pull="never"), least_ready=0, most_ready=0)
    try:
        async with Pool(engine, alone, _NoContainerLog(), examine=look):
            pass
    except ImageNotFound as error:
        found.append(Finding("image", "fail", str(error), help_))
    except SessionsError as error:
        found.append(Finding("kernel", "fail", str(error), help_))
    return found


class _NoContainerLog:
    """A `sessions.containers.container_log.ContainerLog` that records nothing."""

    async def launched(self, connection: Connection) -> None: ...

    async def removed(self, container_id: str) -> None: ...

    async def rekeyed(self, connection: Connection) -> None: ...

    async def only(self, container_ids: Collection[str]) -> None: ...
