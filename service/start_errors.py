"""Why the service cannot start, in words for its operator.

Exception
 └─ StartError                    the service cannot start; its text is for the operator
     ├─ SettingsInvalid(problems)
     ├─ KeyFileInvalid(path, reason)
     ├─ AddressUnavailable(host, port, reason)
     ├─ StorageUnavailable(folder, reason)
     ├─ StorageInUse(folder)
     ├─ RegistryInUse(place)
     ├─ InstanceInUse(instance_id)
     ├─ RegistryMissing(place)
     ├─ ObjectStorageMissing()
     ├─ ObjectStorageUnavailable(url, reason)
     ├─ ObjectStorageTaken(url)
     ├─ MigrationsMissing(folder)
     ├─ MigrationFailed(reason)
     ├─ RegistryTooNew(revision)
     ├─ OtlpMissing()
     ├─ OtlpUnusable(reason)
     ├─ CannotRunKernels(reason)
     ├─ BackupFailed(folder, reason)
     └─ SelfTestFailed(failures)
"""

from collections.abc import Sequence
from pathlib import Path

from sessions.walls import Check


class StartError(Exception):
    """The service cannot start. The text is one sentence, or one a line, for the operator."""


class SettingsInvalid(StartError):
    """Environment variables have values that cannot be used: a sentence for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class KeyFileInvalid(StartError):
    """The file of ``API_KEYS_FILE`` cannot be read or makes no sense; ``reason`` shows no key."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"API_KEYS_FILE={path} cannot be used: {reason}.")
        self.path = path
        self.reason = reason


class AddressUnavailable(StartError):
    """The server cannot listen on ``host`` and ``port``."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"Cannot listen on {host}, port {port}: {reason}. Set HOST and PORT to an address that is free."
        )
        self.host = host
        self.port = port
        self.reason = reason


class StorageUnavailable(StartError):
    """The folder of the files cannot be made or written."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"Cannot store files in {folder}: {reason}. Set FILE_STORAGE_DIR to a folder this user can write."
        )
        self.folder = folder
        self.reason = reason


class StorageInUse(StartError):
    """Another service works in this folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"Another service uses FILE_STORAGE_DIR={folder}; stop it, or give this one a folder of its own."
        )
        self.folder = folder


class RegistryInUse(StartError):
    """Another service works with this registry, and the two are not replicas."""

    def __init__(self, place: object) -> None:
        super().__init__(
            f"Another service uses the registry {place}; stop it, give this one a DATABASE_URL of its own, "
            "or set REPLICA_URL for both (PostgreSQL only)."
        )
        self.place = place


class InstanceInUse(StartError):
    """Another replica has this instance id, and would have its containers removed by this one."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(
            f"Another replica runs as INSTANCE_ID={instance_id}; stop it, or give this one a name of its own."
        )
        self.instance_id = instance_id


class RegistryMissing(StartError):
    """There are stored files, of which the registry knows nothing: it is not the one they are in."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"{place} has stored files, but their registry is missing or empty: put it back where "
            "DATABASE_URL says, or give the service an empty FILE_STORAGE_DIR or FILE_STORAGE_URL."
        )
        self.place = place


class ObjectStorageMissing(StartError):
    """Files are to be in an object storage, but the library for that is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "FILE_STORAGE_URL is set, but obstore is not installed: pip install 'code-interpreter[s3]'."
        )


class ObjectStorageUnavailable(StartError):
    """The object storage cannot be reached, or does not let the service write."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"Cannot store files in {url}: {reason}. See FILE_STORAGE_URL, AWS_ENDPOINT_URL and the other "
            "AWS_* variables."
        )
        self.url = url
        self.reason = reason


class ObjectStorageTaken(StartError):
    """The files there are another registry's, whose service would be robbed by this one's sweeps."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"The files in {url} are another registry's: set DATABASE_URL to that one, or give this service "
            "a FILE_STORAGE_URL of its own. If that registry is gone for good, remove the object `registry` "
            "there."
        )
        self.url = url


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


class OtlpMissing(StartError):
    """Traces are to be sent, but OpenTelemetry is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: "
            "pip install 'code-interpreter[otlp]'."
        )


class OtlpUnusable(StartError):
    """One of OpenTelemetry's own variables makes no sense; the reason is the library's."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Traces cannot be sent as the OTEL_* variables say: {reason}")
        self.reason = reason


class CannotRunKernels(StartError):
    """There is no container engine, or none that will do; the reason says what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Cannot run kernels: {reason}.")
        self.reason = reason


class BackupFailed(StartError):
    """Registry and files cannot be copied; nothing is left in the folder."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"Cannot back up to {folder}: {reason}.")
        self.folder = folder
        self.reason = reason


class SelfTestFailed(StartError):
    """Code that runs in a kernel could do what it must not; ``failures`` are the checks that say so."""

    def __init__(self, failures: Sequence[Check]) -> None:
        lines = [f"- {check.name}: {check.detail}. Help: {check.advice}." for check in failures]
        super().__init__(
            "The self-test failed: the user's code would not be kept in, so none is run.\n" + "\n".join(lines)
        )
        self.failures = failures
