"""What health and readiness say of the kernels."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import Final

from service.operations.errors import AddressUnavailable, SelfTestFailed
from sessions.containers.engine import Engine
from sessions.containers.errors import EngineUnavailable
from sessions.containers.image_care import ImageStatus
from sessions.containers.pool.pool import Pool, PoolStatus
from sessions.containers.sandbox import Sandbox
from sessions.isolation.check import CheckResult
from sessions.isolation.self_test import examine
from sessions.models import ContainerSpec

log = logging.getLogger(__name__)

_PING_SEC: Final = 3.0


class SelfTest:
    """`sessions.containers.launcher.Examine`: the service serves only if every wall around a kernel holds."""

    def __init__(self, engine: Engine, service: socket.socket) -> None:
        """`service` is what the service will be served on."""
        self.report: Sequence[CheckResult] = ()
        self._engine = engine
        self._service = service

    async def __call__(self, sandbox: Sandbox, spec: ContainerSpec) -> None:
        """Fill in `report`.

        Raises:
            SelfTestFailed: a wall does not hold.
            AddressUnavailable: somebody else listens on the service's address by now.
        """
        host, port, *_ = self._service.getsockname()
        if not self._service.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            try:
                self._service.listen()
            except OSError as error:
                raise AddressUnavailable(host, port, error.strerror or str(error)) from error
        report = await examine(self._engine, sandbox, spec, port)
        failures = [check for check in report if not check.ok]
        if failures:
            raise SelfTestFailed(failures)
        self.report = report
        runtime = spec.runtime or "the engine's default"
        log.info("the self-test passed: all %d isolation checks hold; runtime: %s", len(self.report), runtime)


class KernelReadiness:
    """`service.http.dependencies.Kernels` of a pool on an engine."""

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
