"""Errors of `service.database`."""

from pathlib import Path

from service.errors import StartError
from sessions.errors import CallFailed


class InvalidCursor(CallFailed):
    """``after`` is not a cursor that an earlier page gave."""

    def __init__(self, cursor: str) -> None:
        super().__init__("'after' is not a cursor of this list")
        self.cursor = cursor


class RegistryInUse(StartError):
    """Another service works with this registry, and the two are not replicas."""

    def __init__(self, place: object) -> None:
        super().__init__(
            f"Another service uses the registry {place}; stop it, give this one a DATABASE_URL of its own, "
            "or set REPLICA_URL for both (PostgreSQL only)."
        )
        self.place = place


class RegistryMissing(StartError):
    """There are stored files, of which the registry knows nothing: it is not the one they are in."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"{place} has stored files, but their registry is missing or empty: put it back where "
            "DATABASE_URL says, or give the service an empty FILE_STORAGE_DIR or FILE_STORAGE_URL."
        )
        self.place = place


class MigrationsMissing(StartError):
    """The folder of the migrations is not where the code expects it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"The registry's migrations are not at {folder}: "
            "the service runs from its source folder (pip install -e .)."
        )
        self.folder = folder


class MigrationFailed(StartError):
    """The registry's database cannot be reached or brought up to date."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The registry cannot be opened: {reason}. DATABASE_URL says where it is.")
        self.reason = reason


class RegistryTooNew(StartError):
    """The registry has a schema ``revision`` that this version of the code does not know."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"The registry has schema revision {revision}, which this version of the service "
            "does not know: a newer one wrote it. Upgrade the service or use another DATABASE_URL."
        )
        self.revision = revision
