"""The health and readiness of the engine and the pool."""

import asyncio
from collections.abc import Sequence
from typing import Final

from service.operations.self_test import SelfTest
from sessions.containers.engine import Engine
from sessions.containers.errors import EngineUnavailable
from sessions.containers.image_care import ImageStatus
from sessions.containers.pool.pool import Pool, PoolStatus
from sessions.isolation.check import CheckResult

_PING_SEC: Final = 3.0


class KernelReadiness:
    """Implements `service.http.dependencies.Kernels` for a pool and its engine."""

    def __init__(self, engine: Engine, pool: Pool, instance_id: str, self_test: SelfTest) -> None:
        self._engine = engine
        self._pool = pool
        self._instance_id = instance_id
        self._self_test = self_test

    @property
    def instance_id(self) -> str:
        return self._instance_id

    @property
    def self_test(self) -> Sequence[CheckResult]:
        return self._self_test.report

    async def problem(self) -> str | None:
        try:
            async with asyncio.timeout(_PING_SEC):
                await self._engine.ping()
        except TimeoutError:
            return f"the container engine did not answer within {_PING_SEC:g} s"
        except EngineUnavailable as error:
            return str(error)
        return self._pool.status().problem

    async def not_ready(self) -> str | None:
        return None if self._pool.status().ready else await self.problem()

    def counts(self) -> PoolStatus:
        return self._pool.status()

    def image(self) -> ImageStatus:
        return self._pool.image()
