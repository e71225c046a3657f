"""Runs the self-test at the start of the service."""

import logging
import socket
from collections.abc import Sequence

from service.operations.errors import AddressUnavailable, SelfTestFailed
from sessions.containers.engine import Engine
from sessions.containers.sandbox import Sandbox
from sessions.isolation.check import CheckResult
from sessions.isolation.self_test import examine
from sessions.models import ContainerSpec

log = logging.getLogger(__name__)


class SelfTest:
    """Implements `sessions.containers.launcher.Examine`. The service only starts if all checks pass."""

    def __init__(self, engine: Engine, service: socket.socket) -> None:
        """`service` is the socket on which the service will listen."""
        self.report: Sequence[CheckResult] = ()
        """Results of the last self-test that passed."""
        self._engine = engine
        self._service = service

    async def __call__(self, sandbox: Sandbox, spec: ContainerSpec) -> None:
        """Run the self-test in a sandbox that was launched with `spec`, and store the `report`.

        Raises:
            SelfTestFailed: a check failed.
            AddressUnavailable: another process now listens on the address of the service.
        """
        host, port, *_ = self._service.getsockname()
        if not self._service.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            # The probe tries to reach the service's port, so the port has to be open.
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
        log.info("the self-test passed: all %d isolation checks hold; runtime: %s", len(report), runtime)
