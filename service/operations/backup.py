"""The command `backup`: registry and stored files, copied while the service goes on.

The copy is a folder that a service can be started on (`FILE_STORAGE_DIR`). It holds what the registry
held at one moment, and every file of that which was not deleted meanwhile. What lives in containers is
not in it: sessions of the copy are ended as `lost`, and the copy has no claim on the original's containers.
"""

import os
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
from service.operations.errors import BackupFailed
from service.settings import Settings, load_settings

REGISTRY: Final = "registry.sqlite3"
_TELL_SEC: Final = 2.0
_BUSY_SEC: Final = 30.0
_NOT_COPIED: Final = (
    ("sessions", "UPDATE sessions SET ended_at = :now, end_reason = 'lost' WHERE ended_at IS NULL"),
    ("cells", "UPDATE cells SET finished_at = :now, state = 'lost' WHERE state = 'running'"),
    ("containers", "UPDATE containers SET removed_at = :now, state = 'removed' WHERE removed_at IS NULL"),
    # By its name a service finds its containers: the copy gets one of its own at its first start.
    ("instance", "DELETE FROM instance WHERE key = 'instance_id'"),
)
"""What is true of the original alone, by table: how the copy is told so."""


@dataclass(frozen=True)
class Backup:
    """What was copied."""

    files: int
    size_bytes: int
    gone: int
    """Files that were deleted while others were copied: they are not in the copy's registry either."""


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to; it must not exist yet")


def main(arguments: Namespace) -> int:
    """Copy. Returns the exit status: 0, or 1 if that is not possible."""
    try:
        done = back_up(load_settings(), arguments.folder.absolute())
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    gone = f"; {done.gone} were deleted meanwhile" if done.gone else ""
    sys.stdout.write(f"{arguments.folder}: {done.files} files, {done.size_bytes} bytes{gone}\n")
    return 0


def back_up(settings: Settings, folder: Path) -> Backup:
    """Copy registry and files of a service, that may be serving, to a new folder.

    Raises:
        BackupFailed: nothing is left in the folder.
        MigrationFailed: the registry's URL makes no sense.
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
        (draft / "files").mkdir(mode=0o700, parents=True)
        draft.chmod(0o700)
        _copy_registry(registry, draft / REGISTRY)
        done = _copy_files(settings.storage.file_storage_dir / "files", draft)
        _sync(draft)
        draft.rename(folder)
        _sync(folder.parent)
    except (OSError, sqlite3.Error) as error:
        shutil.rmtree(draft, ignore_errors=True)
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise BackupFailed(folder, reason) from error
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return done


def _copy_registry(source: Path, target: Path) -> None:
    """As it is at one moment, whoever writes; then what is true of the original alone is taken out."""
    uri = f"{source.absolute().as_uri()}?mode=ro"
    target.touch(mode=0o600)
    with (
        closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SEC)) as original,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        original.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE").close()
        tables = {name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table, statement in _NOT_COPIED:
            if table in tables:
                copy.execute(statement, {"now": time.time()} if ":now" in statement else {})


def _copy_files(source: Path, target: Path) -> Backup:
    files = size = 0
    gone: list[tuple[str]] = []
    told_at = time.monotonic()
    with closing(sqlite3.connect(target / REGISTRY, isolation_level=None)) as registry:
        ids = [file_id for (file_id,) in registry.execute("SELECT file_id FROM files")]
        for file_id in ids:
            try:
                size += _copy(source / file_id, target / "files" / file_id)
                files += 1
            except FileNotFoundError:
                gone.append((file_id,))
            if time.monotonic() - told_at >= _TELL_SEC:
                told_at = time.monotonic()
                sys.stderr.write(f"{files} of {len(ids)} files, {size} bytes ...\n")
        registry.executemany("DELETE FROM files WHERE file_id = ?", gone)
    _sync(target / REGISTRY)
    return Backup(files, size, len(gone))


def _copy(source: Path, target: Path) -> int:
    """A stored file never changes, so it can be copied at any time; its bytes are on the disk afterwards."""
    with source.open("rb") as original, open(target, "xb", opener=_private) as copy:
        shutil.copyfileobj(original, copy, 1 << 20)
        os.fsync(copy.fileno())
        return copy.tell()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
