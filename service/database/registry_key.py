"""The key that encrypts the secrets in the registry: where it comes from, and when it has changed."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.database.database import Database
from service.database.errors import KeyUnavailable
from service.database.registries.container_registry import place_of_kernel_key, place_of_token
from service.database.secret_box import SecretBox
from service.database.tables import ContainerRow, InstanceRow
from service.private_paths.files import create_private_file, read_private_file
from service.private_paths.path import resolve
from sessions.errors import RegistryUnavailable

_LEAST_CHARACTERS: Final = 16
_FINGERPRINT: Final = "registry_key"
"""Key of the row with the fingerprint of the key that the containers' secrets are encrypted with."""


@dataclass(frozen=True)
class RegistryKey:
    """The text of the key, and where it comes from, for messages."""

    text: str = field(repr=False)
    source: str


def find_key(
    given: str | None, replica_secret: str | None, file: Path, storage: Path, registry: Path | None
) -> RegistryKey:
    """Return the key: the given one, or the secret of the replicas, or that of a file, which may be created.

    Args:
        file: the file with the key; ``~`` is the home folder of this user.
        storage: the folder of stored files, and by default of the registry; the file must not be in it.
        registry: the registry's file, if there is one; the file must not be beside it.

    Raises:
        KeyUnavailable: the file cannot be read or created.
        NotPrivate: another user can read or replace the file.
    """
    if given is not None:
        return RegistryKey(given, "REGISTRY_KEY")
    if replica_secret is not None:
        return RegistryKey(replica_secret, "REPLICA_SECRET")
    try:
        file = file.expanduser().absolute()
        place = _resolved(file)
        is_beside = registry is not None and place.parent == _resolved(registry).parent
        if is_beside or place.is_relative_to(_resolved(storage)):
            raise KeyUnavailable(file, "it would be beside the registry, which it protects")
        content = read_private_file(file)
        if content is None:
            create_private_file(file, f"{secrets.token_urlsafe(32)}\n".encode())
            content = read_private_file(file) or b""
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise KeyUnavailable(file, reason) from error
    text = content.decode(errors="replace").strip()
    if len(text) < _LEAST_CHARACTERS:
        reason = (
            f"it has fewer than {_LEAST_CHARACTERS} characters (restore it, or remove it: then open sessions "
            "end as lost)"
        )
        raise KeyUnavailable(file, reason)
    return RegistryKey(text, str(file))


def _resolved(path: Path) -> Path:
    at, missing = resolve(path)
    return at.joinpath(*missing)


async def adopt_key(database: Database, box: SecretBox) -> bool:
    """Note which key encrypts the registry's secrets; return whether it was another key until now.

    The first call encrypts the secrets that an earlier version has written, in one transaction. Errors as
    ``Database.run``.
    """

    def adopt(session: Session) -> bool:
        row = session.get(InstanceRow, _FINGERPRINT, with_for_update=True)
        if row is not None:
            was_other = row.value != box.fingerprint
            row.value = box.fingerprint
            return was_other
        # The row comes first. Another process that adds it at the same time waits here and then fails, so it
        # does not encrypt again what this one has encrypted.
        session.add(InstanceRow(key=_FINGERPRINT, value=box.fingerprint))
        session.flush()
        _encrypt(session, box)
        return False

    try:
        was_other = await database.run(adopt)
    except RegistryUnavailable as error:
        if not isinstance(error.__cause__, IntegrityError):
            raise
        # Another process has added the row at the same time.
        was_other = await database.run(adopt)
    await database.discard_overwritten()
    return was_other


def _encrypt(session: Session, box: SecretBox) -> None:
    """Encrypt the secrets of running containers, and delete those of removed ones."""
    if session.get_bind().dialect.name == "sqlite":
        session.connection().exec_driver_sql("PRAGMA secure_delete=ON")
    removed = update(ContainerRow).where(ContainerRow.removed_at.is_not(None)).values(token="", kernel_key="")
    session.execute(removed.execution_options(synchronize_session=False))
    for row in session.scalars(select(ContainerRow).where(ContainerRow.removed_at.is_(None))):
        row.token = box.seal(row.token, *place_of_token(row))
        row.kernel_key = box.seal(row.kernel_key, *place_of_kernel_key(row.container_id))
