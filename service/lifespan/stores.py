"""Opens the registry and the stored files, for a single service or for one of several replicas."""

import logging
import signal
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from pydantic import SecretStr

from service.database.database import Database
from service.database.errors import MigrationFailed, RegistryInUse, RegistryMissing
from service.database.installation import registry_id as read_registry_id
from service.database.registries.file_registry import FileRegistry
from service.database.registry_key import adopt_key, find_key
from service.database.secret_box import SecretBox
from service.database.service_lock import hold_database
from service.errors import StartError
from service.files.errors import StorageInUse
from service.files.open import open_storage
from service.files.quota import StorageQuota
from service.files.storage_lock import lock
from service.files.store import FileStore
from service.private_paths.files import make_private_database
from service.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stores:
    """The registry and the stored files, open and locked."""

    database: Database
    files: FileStore
    registry_id: str
    """Id of the registry, which stays the same for as long as the registry exists."""
    instance_id: str
    """Label of this service's containers."""
    box: SecretBox
    """Encrypts the secrets in the registry."""


async def open_stores(settings: Settings, stack: AsyncExitStack) -> Stores:
    """Open, lock and migrate the registry, and open the file store.

    Args:
        settings: the settings with the places of the registry and the files.
        stack: closes the stores when it is closed.

    Raises:
        StartError: another service uses the stores, or the registry and the files do not belong together.
    """
    database = Database(settings.storage.registry_url)
    stack.push_async_callback(database.close)
    storage = open_storage(settings.storage)
    stack.push_async_callback(storage.close)
    await storage.prepare()
    _protect(database)
    is_replica = settings.replicas.is_replica
    files = FileStore(
        storage,
        FileRegistry(database),
        settings.storage.max_file_bytes,
        settings.storage.file_ttl_sec,
        StorageQuota(settings.keys.limits.storage_bytes),
        is_shared=is_replica,
    )
    await _lock(settings, database, stack)
    if await storage.any() and not await database.exists():
        # A new registry lists no files, so the sweep would delete all of them as orphans.
        raise RegistryMissing(storage.place)
    await database.migrate()
    box = await _open_box(settings, database)
    registry_id = await read_registry_id(database)
    await storage.claim(registry_id)
    await files.count_stored()
    # Replicas share the registry, so its id cannot name one of them.
    instance_id = settings.containers.instance_id or (uuid.uuid4().hex if is_replica else registry_id)
    return Stores(database, files, registry_id, instance_id, box)


async def _open_box(settings: Settings, database: Database) -> SecretBox:
    """Return the box with the registry's key, and encrypt what an earlier version has written without one.

    Raises:
        KeyUnavailable, NotPrivate: the key's file cannot be used.
    """
    key = find_key(
        _reveal(settings.storage.registry_key),
        _reveal(settings.replicas.replica_secret),
        settings.storage.registry_key_file,
        settings.storage.file_storage_dir,
        database.file,
    )
    box = SecretBox(key.text)
    if await adopt_key(database, box):
        log.error(
            "The registry's secrets were encrypted with another key than that of %s: sessions that were open "
            "end as lost.",
            key.source,
        )
    return box


def _reveal(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


async def _lock(settings: Settings, database: Database, stack: AsyncExitStack) -> None:
    """Lock the folder of the files and the registry, until the stack is closed."""
    if settings.storage.file_storage_url is None:
        folder = settings.storage.file_storage_dir
        await stack.enter_async_context(lock(folder / "lock", StorageInUse(folder)))
    if (file := database.file) is not None:
        in_use = RegistryInUse(file)
        await stack.enter_async_context(lock(file.with_name(f"{file.name}.lock"), in_use))
    else:
        # Replicas hold the registry together; any other service holds it alone.
        in_use = RegistryInUse(settings.storage.registry_place)
        is_shared = settings.replicas.is_replica
        held = hold_database(database, in_use, shared=is_shared, on_lost=partial(_stop, in_use))
        await stack.enter_async_context(held)


def _protect(database: Database) -> None:
    """Take the registry's file from other users. Raises ``NotPrivate`` or ``MigrationFailed``."""
    if (file := database.file) is not None:
        try:
            make_private_database(file)
        except OSError as error:
            raise MigrationFailed(f"{file}: {error.strerror or error}") from error


def _stop(why: StartError) -> None:
    """Stop the service in order, because it has lost the lock of the registry."""
    log.critical("%s", why)
    signal.raise_signal(signal.SIGTERM)
