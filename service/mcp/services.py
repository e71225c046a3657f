"""What the tools use, handed in when the service starts."""

from dataclasses import dataclass

from service.files.store import FileStore
from service.settings import Settings
from service.telemetry.metrics import Metrics
from sessions.executions.staging import Staging
from sessions.manager.manager import SessionManager


@dataclass(frozen=True)
class McpServices:
    """The services that MCP is a way into."""

    settings: Settings
    sessions: SessionManager
    files: FileStore
    staging: Staging
    metrics: Metrics
