"""The services that every session uses: rows, files, limits and recording. The lifespan provides them."""

from dataclasses import dataclass

from sessions.executions.limits import ExecutionLimits
from sessions.executions.staging import Staging
from sessions.ports import ContainerRows, OwnerLimit, Recording, SessionRows, StoredFiles


@dataclass(frozen=True)
class SessionSettings:
    """How many sessions may be open, and how long they live."""

    max_sessions: int
    """Open sessions in this service."""
    max_per_owner: int
    """Open sessions of one owner; 0 means no limit."""
    idle_sec: float
    """Seconds without a call after which a session ends; 0 means never."""
    lease_sec: float
    """Seconds after which a container removes itself if no service renews its lease."""
    queue_size: int
    """Calls that may wait for the lock of one session."""
    queue_timeout_sec: float
    """Seconds that a call waits for the lock."""


@dataclass(frozen=True)
class SessionServices:
    """The services of the domain that sessions use."""

    rows: SessionRows
    containers: ContainerRows
    files: StoredFiles
    staging: Staging
    recording: Recording
    running: OwnerLimit
    limits: ExecutionLimits
    settings: SessionSettings
