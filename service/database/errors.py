"""Errors of `service.database`."""

from pathlib import Path

from service.errors import StartError
from sessions.errors import CallFailed


class InvalidCursor(CallFailed):
    """The parameter ``after`` is not a cursor of an earlier page."""

    def __init__(self, cursor: str) -> None:
        super().__init__("'after' is not a cursor of this list; use the 'next' of an earlier page")
        self.cursor = cursor


class RegistryInUse(StartError):
    """Another service uses this registry, and the two are not replicas."""

    def __init__(self, place: object) -> None:
        super().__init__(
            f"Another service uses the registry {place}; stop it, give this service another DATABASE_URL, "
            "or set REPLICA_URL for both (PostgreSQL only)."
        )
        self.place = place


class RegistryMissing(StartError):
    """There are stored files, but the registry is empty, so it is not the registry of these files."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"{place} has stored files, but their registry is missing or empty. Restore the registry that "
            "DATABASE_URL names, or use an empty FILE_STORAGE_DIR or FILE_STORAGE_URL."
        )
        self.place = place


class MigrationsMissing(StartError):
    """The folder of the migrations does not exist."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"The registry's migrations are not at {folder}. "
            "Install the service from its source folder: pip install -e ."
        )
        self.folder = folder


class MigrationFailed(StartError):
    """The database of the registry cannot be reached, is damaged, or cannot be migrated."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The registry cannot be opened: {reason}. DATABASE_URL names its database.")
        self.reason = reason


class KeyUnavailable(StartError):
    """The file with the key of the registry's secrets cannot be used."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(
            f"Cannot use {file} for the registry's key: {reason}; set REGISTRY_KEY to a long random text, or "
            "REGISTRY_KEY_FILE to a file that this user can create."
        )
        self.file = file
        self.reason = reason


class RegistryTooNew(StartError):
    """The registry has a schema ``revision`` that only a newer version of the service knows."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"The registry has schema revision {revision}, which this version of the service "
            "does not know. Upgrade the service or use another DATABASE_URL."
        )
        self.revision = revision
