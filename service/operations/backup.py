"""The command `backup`, which copies the registry and the stored files while the service runs.

The command `restore` reads the copy. A service can also be started on the copy (`FILE_STORAGE_DIR`). The copy
has the registry at one moment, and all files in it except those that were deleted during the copying.
Containers are not copied. So in the copy, all sessions have ended as `lost`, and there are no containers.
"""

import shutil
import sqlite3
import sys
import time
from argparse import ArgumentParser, Namespace
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.database.connection import file_of, make_engine
from service.errors import StartError
from service.operations.copying import FILES, REGISTRY, Progress, copy_file, reason_of
from service.operations.errors import BackupFailed
from service.private_paths.files import sync
from service.settings import Settings, load_settings

_BUSY_SEC: Final = 30.0
_NOT_COPIED: Final = (
    ("sessions", "UPDATE sessions SET ended_at = :now, end_reason = 'lost' WHERE ended_at IS NULL"),
    ("cells", "UPDATE cells SET finished_at = :now, state = 'lost' WHERE state = 'running'"),
    ("containers", "UPDATE containers SET removed_at = :now, state = 'removed' WHERE removed_at IS NULL"),
    # The copy has no secrets, so it needs no key.
    ("containers", "UPDATE containers SET token = '', kernel_key = ''"),
    # A service finds its containers by its instance id. A service on the copy creates a new id at its first
    # start.
    ("instance", "DELETE FROM instance WHERE key IN ('instance_id', 'registry_key')"),
)
"""Statements that correct the copied registry, by table: containers and sessions belong to the original."""


@dataclass(frozen=True)
class Backup:
    """Number and size of the files that were copied."""

    files: int
    size_bytes: int
    deleted: int
    """Files that were deleted during the copying. The copy's registry does not list them."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="folder for the copy; it must not exist yet"
    )


def main(arguments: Namespace) -> int:
    """Back up. Returns the exit status: 0, or 1 if the backup failed."""
    try:
        done = back_up(load_settings(), arguments.folder.absolute())
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    deleted = f"; {done.deleted} were deleted meanwhile" if done.deleted else ""
    sys.stdout.write(f"{arguments.folder}: {done.files} files, {done.size_bytes} bytes{deleted}\n")
    return 0


def back_up(settings: Settings, folder: Path) -> Backup:
    """Copy the registry and the stored files to a new folder. The service may run meanwhile.

    Raises:
        BackupFailed: the copy cannot be made. The incomplete copy has been removed.
        MigrationFailed: `DATABASE_URL` is invalid.
    """
    registry = file_of(make_engine(settings.storage.registry_url))
    if registry is None:
        reason = (
            "the registry is not in SQLite; copy DATABASE_URL with that database's own tool, such as "
            "pg_dump, and then the stored files, which never change"
        )
        raise BackupFailed(folder, reason)
    if settings.storage.file_storage_url is not None:
        reason = (
            "the stored files are in an object storage; copy the registry's file with `sqlite3 FILE "
            ".backup COPY`, and then the objects with that storage's own tool, such as `aws s3 sync`"
        )
        raise BackupFailed(folder, reason)
    if not registry.is_file():
        raise BackupFailed(folder, f"there is no registry at {registry}")
    if folder.exists():
        raise BackupFailed(folder, "it exists already")
    draft = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        (draft / FILES).mkdir(mode=0o700)
        _copy_registry(registry, draft / REGISTRY)
        done = _copy_files(settings.storage.file_storage_dir / FILES, draft)
        sync(draft)
        draft.rename(folder)
        sync(folder.parent)
    except (OSError, sqlite3.Error) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise BackupFailed(folder, reason_of(error)) from error
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return done


def _copy_registry(source: Path, target: Path) -> None:
    """Copy the registry as it is at one moment, and correct the copy."""
    uri = f"{source.absolute().as_uri()}?mode=ro"
    target.touch(mode=0o600)
    with (
        closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SEC)) as original,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        original.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE").close()
        copy.execute("PRAGMA secure_delete=ON").close()
        tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table, statement in _NOT_COPIED:
            if table in tables:
                copy.execute(statement, {"now": time.time()} if ":now" in statement else {})


def _copy_files(source: Path, target: Path) -> Backup:
    files = size = 0
    deleted: list[tuple[str]] = []
    with closing(sqlite3.connect(target / REGISTRY, isolation_level=None)) as registry:
        ids = [file_id for (file_id,) in registry.execute("SELECT file_id FROM files")]
        progress = Progress(len(ids))
        for file_id in ids:
            try:
                size += copy_file(source / file_id, target / FILES / file_id)
                files += 1
            except FileNotFoundError:
                deleted.append((file_id,))
            progress.report(files, size)
        registry.executemany("DELETE FROM files WHERE file_id = ?", deleted)
    sync(target / REGISTRY)
    return Backup(files, size, len(deleted))
