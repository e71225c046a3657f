"""Values that only the registry and its callers in `service` exchange."""

from dataclasses import dataclass

from sessions.records import ExecutionRecord, StoredFile


@dataclass(frozen=True)
class FilePage:
    """Files in the order they were stored, and where the next page begins (None: no more)."""

    files: tuple[StoredFile, ...]
    next: str | None


@dataclass(frozen=True)
class ExecutionPage:
    """Executions, newest first, and where the next page begins (None: no more)."""

    executions: tuple[ExecutionRecord, ...]
    next: str | None


@dataclass(frozen=True)
class ReplicaRecord:
    """A service that shares the registry with others, for one of its lives."""

    replica_id: str
    instance_id: str
    engine_id: str
    """Which engine its containers are on: who has the same can take its sessions."""
    url: str
    """Where the others reach it."""
