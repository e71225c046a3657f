"""The health and readiness of the engine and the pool."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from service.operations.self_test import SelfTest
from sessions.containers.engine import Engine
from sessions.containers.errors import EngineUnavailable
from sessions.containers.image_care import ImageStatus
from sessions.containers.pool.pool import Pool, PoolStatus
from sessions.isolation.check import CheckResult

_PING_SEC: Final = 3.0
_RECENT_SEC: Final = 3.0
_PATIENCE_SEC: Final = 0.1


class _EnginePing:
    """Asks whether the engine answers; one question at a time, however many callers want to know."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asking: asyncio.Task[str | None] | None = None
        self._answered_at = -_RECENT_SEC

    async def problem(self) -> str | None:
        """Return why the engine does not work, or None.

        An engine that is busy answers late, and the callers should not wait for that. So they wait for 0.1 s
        if it has answered within the last 3 s.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        is_recent = time.monotonic() - self._answered_at < _RECENT_SEC
        await asyncio.wait({self._asking}, timeout=_PATIENCE_SEC if is_recent else None)
        return self._asking.result() if self._asking.done() else None

    async def _ask(self) -> str | None:
        try:
            async with asyncio.timeout(_PING_SEC):
                await self._engine.ping()
        except TimeoutError:
            return f"the container engine did not answer within {_PING_SEC:g} s"
        except EngineUnavailable as error:
            return str(error)
        self._answered_at = time.monotonic()
        return None


class KernelReadiness:
    """Implements `service.http.dependencies.Kernels` for a pool and its engine."""

    def __init__(self, engine: Engine, pool: Pool, instance_id: str, self_test: SelfTest) -> None:
        self._ping = _EnginePing(engine)
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
        return await self._ping.problem() or self._pool.status().problem

    async def not_ready(self) -> str | None:
        return None if self._pool.status().ready else await self.problem()

    def counts(self) -> PoolStatus:
        return self._pool.status()

    def image(self) -> ImageStatus:
        return self._pool.image()
