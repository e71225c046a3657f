"""Errors of `service.files`."""

from pathlib import Path

from service.errors import StartError
from sessions.errors import CallFailed


class InvalidFilename(CallFailed):
    """The name of an uploaded file is invalid."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The filename {reason}")
        self.reason = reason


class StorageUnavailable(StartError):
    """The folder of the stored files cannot be created or written."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"Cannot store files in {folder}: {reason}. Set FILE_STORAGE_DIR to a folder this user can write."
        )
        self.folder = folder
        self.reason = reason


class StorageInUse(StartError):
    """Another service uses the folder of the stored files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"Another service uses FILE_STORAGE_DIR={folder}; stop it, or give this one a folder of its own."
        )
        self.folder = folder


class ObjectStorageMissing(StartError):
    """An object storage is configured, but the library for it is not installed."""

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
    """The files belong to another registry, so that a sweep would remove them."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"The files in {url} are another registry's: set DATABASE_URL to that one, or give this service "
            "a FILE_STORAGE_URL of its own. If that registry is gone for good, remove the object `registry` "
            "there."
        )
        self.url = url
