"""The parts of the service that the tools use; the lifespan hands them in."""

from dataclasses import dataclass

from service.files.store import FileStore
from service.settings import Settings
from service.telemetry.metrics import Metrics
from sessions.executions.staging import Staging
from sessions.manager.manager import SessionManager


@dataclass(frozen=True)
class McpServices:
    """The parts of the service that the tools use."""

    settings: Settings
    sessions: SessionManager
    files: FileStore
    staging: Staging
    metrics: Metrics
