"""Stored files, and files of a session's workspace."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StoredFile:
    """A stored file, which executions can use as input."""

    file_id: str
    filename: str
    size_bytes: int
    upload_time: float
    sha256: str = ""
    media_type: str = "application/octet-stream"
    expires_at: float | None = None


@dataclass(frozen=True)
class FileList:
    """One page of the list of stored files. `next` is the cursor of the next page, None on the last."""

    files: tuple[StoredFile, ...]
    next: str | None = None


@dataclass(frozen=True)
class WorkspaceFile:
    """A file in a session's workspace."""

    path: str
    size_bytes: int
    modified_at: float | None = None


@dataclass(frozen=True)
class WorkspaceFileList:
    """All files in a session's workspace."""

    files: tuple[WorkspaceFile, ...]
