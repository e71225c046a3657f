"""What health and readiness say of the kernels."""

import asyncio
from typing import Final

from sessions.engine import Engine
from sessions.errors import EngineUnavailable
from sessions.pool import Pool, PoolStatus

_PING_SEC: Final = 3.0


class KernelReadiness:
    """`service.dependencies.Kernels` of a pool on an engine."""

    def __init__(self, engine: Engine, pool: Pool, instance_id: str) -> None:
        self._engine = engine
        self._pool = pool
        self._instance_id = instance_id

    @property
    def instance_id(self) -> str:
        return self._instance_id

    async def problem(self) -> str | None:
        try:
            async with asyncio.timeout(_PING_SEC):
                await self._engine.ping()
        except TimeoutError:
            return f"the container engine did not answer within {_PING_SEC:g} s"
        except EngineUnavailable as error:
            return str(error)
        return self._pool.status().problem

    def not_ready(self) -> str | None:
        status = self._pool.status()
        if status.served:
            return None
        return status.problem or "the first kernel is starting"

    def counts(self) -> PoolStatus:
        return self._pool.status()
