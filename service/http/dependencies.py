"""Dependencies of routes. They are read from ``app.state``, so there are no globals.

``create_app`` sets ``app.state.settings``, ``metrics`` and ``traces``. The lifespan sets ``files``,
``kernels``, ``executor``, ``executions`` and ``sessions``.
"""

from collections.abc import Sequence
from typing import Annotated, Protocol

from fastapi import Depends, Request

from service.files.store import FileStore
from service.http.guard import caller_of
from service.settings import Settings
from service.telemetry.execution_log import ExecutionLog
from service.telemetry.metrics import KernelCounts, Metrics
from sessions.containers.image_care import ImageStatus
from sessions.executions.one_shot import OneShotExecutor
from sessions.isolation.check import CheckResult
from sessions.manager.manager import SessionManager
from sessions.models import Caller


class Kernels(Protocol):
    """The state of the kernels, for `/health`, `/ready` and `/metrics`."""

    @property
    def instance_id(self) -> str:
        """Id of this instance of the service. Its containers have the id as a label."""

    @property
    def self_test(self) -> Sequence[CheckResult]:
        """Results of the last self-test that passed."""

    async def problem(self) -> str | None:
        """Return why no kernel can be started now; None if one can. Returns within seconds, never raises."""

    async def not_ready(self) -> str | None:
        """Return why no code can run now; None if a kernel is ready or can be started."""

    def counts(self) -> KernelCounts:
        """Return the numbers of containers by state."""

    def image(self) -> ImageStatus:
        """Return the image that containers are launched from."""


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _files(request: Request) -> FileStore:
    files: FileStore = request.app.state.files
    return files


async def _kernels(request: Request) -> Kernels:
    kernels: Kernels = request.app.state.kernels
    return kernels


async def _executor(request: Request) -> OneShotExecutor:
    executor: OneShotExecutor = request.app.state.executor
    return executor


async def _executions(request: Request) -> ExecutionLog:
    executions: ExecutionLog = request.app.state.executions
    return executions


async def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


async def _sessions(request: Request) -> SessionManager:
    sessions: SessionManager = request.app.state.sessions
    return sessions


async def _caller(request: Request) -> Caller:
    return caller_of(request.scope)


async def _owner(request: Request) -> str:
    return caller_of(request.scope).owner


CallerDep = Annotated[Caller, Depends(_caller)]
OwnerDep = Annotated[str, Depends(_owner)]
"""The owner of the files, sessions and executions that the request may use."""
SettingsDep = Annotated[Settings, Depends(_settings)]
FilesDep = Annotated[FileStore, Depends(_files)]
KernelsDep = Annotated[Kernels, Depends(_kernels)]
SessionsDep = Annotated[SessionManager, Depends(_sessions)]
ExecutionsDep = Annotated[ExecutionLog, Depends(_executions)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]
ExecutorDep = Annotated[OneShotExecutor, Depends(_executor)]
