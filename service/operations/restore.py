"""The command `restore`, which copies a backup to the places in the settings.

All files are first copied next to their final places, and checked. Until then, the existing data is not
changed. If the command is interrupted afterwards, the registry is missing, so that no service starts with
incomplete data. The command can then be repeated with `--replace`.
"""

import asyncio
import hashlib
import shutil
import sqlite3
import sys
from argparse import ArgumentParser, Namespace
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from service.database import migrations
from service.database.connection import file_of, make_engine, make_reading_engine
from service.database.errors import MigrationFailed, RegistryInUse
from service.errors import StartError
from service.files.disk import make_folder
from service.files.errors import StorageInUse
from service.files.storage_lock import lock
from service.operations.copying import FILES, REGISTRY, Progress, copy_file, reason_of
from service.operations.errors import RestoreFailed
from service.private_paths.files import sync
from service.settings import Settings, load_settings


@dataclass(frozen=True)
class Restored:
    """Number and size of the files that were restored."""

    files: int
    size_bytes: int


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder that `backup` made")
    parser.add_argument("--replace", action="store_true", help="delete the existing registry and files")


def main(arguments: Namespace) -> int:
    """Restore. Returns the exit status: 0, or 1 if the backup was not restored."""
    folder: Path = arguments.folder.absolute()
    try:
        done = restore(load_settings(), folder, replace=arguments.replace)
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{arguments.folder}: restored {done.files} files, {done.size_bytes} bytes\n")
    return 0


def restore(settings: Settings, folder: Path, *, replace: bool) -> Restored:
    """Copy the registry and the files of a backup to the places in the settings.

    Args:
        settings: `DATABASE_URL` and `FILE_STORAGE_DIR` are the places.
        folder: a folder that `service.operations.backup` made.
        replace: delete existing data. If False, existing data is an error.

    Raises:
        RestoreFailed: the backup is incomplete, the places have data, or the disk reports an error.
        StorageInUse: a service uses `FILE_STORAGE_DIR`.
        RegistryInUse: a service uses the registry.
        StorageUnavailable: `FILE_STORAGE_DIR` cannot be created or written.
    """
    registry = _registry_file(settings, folder)
    storage = settings.storage.file_storage_dir
    if folder.resolve() == storage.resolve():
        raise RestoreFailed(
            folder, "the folder is FILE_STORAGE_DIR itself: a service can be started on it without a restore"
        )
    make_folder(storage)
    if not registry.parent.is_dir():
        make_folder(registry.parent)
    restoring = _Restoring(folder, registry, storage)
    return asyncio.run(restoring.run(replace=replace))


def _registry_file(settings: Settings, folder: Path) -> Path:
    registry = file_of(make_engine(settings.storage.registry_url))
    if registry is None:
        reason = "the registry is not in SQLite; use that database's own tool, such as pg_restore"
        raise RestoreFailed(folder, reason)
    if settings.storage.file_storage_url is not None:
        reason = (
            "the stored files are in an object storage; use that storage's own tool, such as `aws s3 sync`, "
            "and copy the registry's file to its place"
        )
        raise RestoreFailed(folder, reason)
    return registry


def _has_entries(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


class _Restoring:
    """One run of the command. The copies (drafts) are next to their final places until they are complete."""

    def __init__(self, folder: Path, registry: Path, storage: Path) -> None:
        self._folder = folder
        self._registry = registry
        self._storage = storage
        self._files = storage / FILES
        self._registry_draft = registry.with_name(f".{registry.name}.restoring")
        self._files_draft = storage / f".{FILES}.restoring"
        self._replaced = storage / f".{FILES}.replaced"

    async def run(self, *, replace: bool) -> Restored:
        """Restore with both locks, so that no service can start on the same data."""
        registry_lock = self._registry.with_name(f"{self._registry.name}.lock")
        async with (
            lock(self._storage / "lock", StorageInUse(self._storage), wait_sec=0),
            lock(registry_lock, RegistryInUse(self._registry), wait_sec=0),
        ):
            return self._restore(replace=replace)

    def _restore(self, *, replace: bool) -> Restored:
        if not replace and (self._registry.exists() or _has_entries(self._files)):
            reason = f"{self._storage} or {self._registry} has data already; --replace deletes it"
            raise RestoreFailed(self._folder, reason)
        try:
            done = self._copy()
            self._put_in_place()
        except (OSError, sqlite3.Error) as error:
            raise RestoreFailed(self._folder, reason_of(error)) from error
        finally:
            self._remove_drafts()
        return done

    def _copy(self) -> Restored:
        """Copy the backup to the drafts, and check the copies."""
        self._remove_drafts()
        if not (self._folder / REGISTRY).is_file() or not (self._folder / FILES).is_dir():
            raise RestoreFailed(self._folder, f"it is not a backup: {REGISTRY} or {FILES}/ is missing")
        copy_file(self._folder / REGISTRY, self._registry_draft)
        self._check_registry()
        self._files_draft.mkdir(mode=0o700)
        files = size = 0
        with closing(sqlite3.connect(f"{self._registry_draft.as_uri()}?mode=ro", uri=True)) as registry:
            rows = registry.execute("SELECT file_id, sha256 FROM files").fetchall()
        progress = Progress(len(rows))
        for file_id, sha256 in rows:
            size += self._copy_stored_file(file_id, sha256)
            files += 1
            progress.report(files, size)
        sync(self._files_draft)
        return Restored(files, size)

    def _check_registry(self) -> None:
        try:
            schema = migrations.look(make_reading_engine(f"sqlite:///{self._registry_draft}"))
        except MigrationFailed as error:
            raise RestoreFailed(self._folder, f"its {REGISTRY} cannot be read: {error.reason}") from error
        if schema is None:
            raise RestoreFailed(self._folder, f"it is not a backup: its {REGISTRY} is empty")
        if not schema.is_known:
            reason = f"a newer version made it (schema {schema.revision}): upgrade the service first"
            raise RestoreFailed(self._folder, reason)

    def _copy_stored_file(self, file_id: str, sha256: str) -> int:
        target = self._files_draft / file_id
        try:
            size = copy_file(self._folder / FILES / file_id, target)
        except FileNotFoundError as error:
            raise RestoreFailed(self._folder, f"it is not complete: {FILES}/{file_id} is missing") from error
        with target.open("rb") as copy:
            if hashlib.file_digest(copy, "sha256").hexdigest() != sha256:
                raise RestoreFailed(self._folder, f"{FILES}/{file_id} is damaged")
        return size

    def _put_in_place(self) -> None:
        """Replace the existing data by the drafts, the registry last."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            self._registry.with_name(f"{self._registry.name}{suffix}").unlink(missing_ok=True)
        sync(self._registry.parent)
        if self._files.exists():
            self._files.rename(self._replaced)
        self._files_draft.rename(self._files)
        sync(self._files.parent)
        self._registry_draft.rename(self._registry)
        sync(self._registry.parent)

    def _remove_drafts(self) -> None:
        """Remove drafts and replaced files of this run, and of earlier runs that were interrupted."""
        self._registry_draft.unlink(missing_ok=True)
        for folder in (self._files_draft, self._replaced):
            shutil.rmtree(folder, ignore_errors=True)
