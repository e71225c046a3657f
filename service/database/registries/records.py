"""Records that the registry returns to callers in `service` only. Those of the domain are in `sessions`."""

from dataclasses import dataclass

from sessions.records import ExecutionRecord, StoredFile


@dataclass(frozen=True)
class FilePage:
    """Files in the order in which they were stored, and the cursor of the next page (None on the last)."""

    files: tuple[StoredFile, ...]
    next: str | None


@dataclass(frozen=True)
class ExecutionPage:
    """Executions, newest first, and the cursor of the next page (None on the last one)."""

    executions: tuple[ExecutionRecord, ...]
    next: str | None


@dataclass(frozen=True)
class ReplicaRecord:
    """A replica: one run of a service that shares the registry with others."""

    replica_id: str
    instance_id: str
    engine_id: str
    """Id of the engine with its containers. A replica with the same engine can take its sessions."""
    url: str
    """URL at which other replicas reach it."""
