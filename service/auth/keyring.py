"""API keys: which requests are allowed, and to which owner they belong.

Each key has a name. The files, sessions and executions that are made with the key belong to that name,
their owner. The service keeps only SHA-256 hashes of keys. Keys are long and random, so a slow hash
would not make them harder to guess. The key file has a line ``NAME:sha256:HEX`` for each key.
"""

import hashlib
import hmac
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from service.auth.errors import KeyFileInvalid, KeyInvalid, KeyMissing
from service.private_paths.files import can_be_read_by_others, check_trusted_file
from service.private_paths.trust import NotPrivate
from service.settings.api_keys import KEY_NAME, distinct
from sessions.models import Caller
from sessions.records import ONE_TENANT

log = logging.getLogger(__name__)

SHORT_KEY: Final = 20
"""Keys with fewer characters can be guessed. The start logs a warning for them."""

READ_BY_OTHERS: Final = "Other users of the machine can read the hashes in API_KEYS_FILE={}"

_LINE = re.compile(rf"({KEY_NAME.pattern}):sha256:([0-9a-f]{{64}})")

Keys = dict[str, bytes]
"""The SHA-256 of each key, by name."""


def digest(key: str | bytes) -> bytes:
    """Return the SHA-256 of a key."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()


def read_key_file(path: Path) -> Keys:
    """Return the keys of a file, whoever owns it. Raises ``KeyFileInvalid``."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileInvalid(path, getattr(error, "strerror", None) or "it is not UTF-8 text") from error
    pairs: list[tuple[str, bytes]] = []
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        found = _LINE.fullmatch(entry)
        if not found:
            raise KeyFileInvalid(path, f"line {number} is not NAME:sha256:HEX")
        pairs.append((found[1], bytes.fromhex(found[2])))
    try:
        return distinct(pairs)
    except ValueError as error:
        raise KeyFileInvalid(path, str(error)) from error


def read_trusted_key_file(path: Path) -> Keys:
    """Return the keys of a file. Raises ``KeyFileInvalid``, also if another user can change the file."""
    try:
        return read_key_file(check_trusted_file(path))
    except NotPrivate as error:
        where = "" if error.path == path else f"{error.path}: "
        raise KeyFileInvalid(path, f"{where}{error.reason}; {error.advice}") from error
    except OSError as error:
        raise KeyFileInvalid(path, error.strerror or str(error)) from error
    except KeyFileInvalid as error:
        raise KeyFileInvalid(path, error.reason) from error


def presented(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """Return the keys in the headers of a request, without empty ones."""
    keys = set()
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.strip().partition(b" ")
            if scheme.lower() in (b"bearer", b"token"):
                keys.add(key.strip())
        elif name == b"x-api-key":
            keys.add(value.strip())
    return keys - {b""}


class Keyring:
    """The valid keys: those of ``API_KEYS``, and those that the key file contains at the moment.

    If the file becomes invalid while the service runs, the error is logged and the keys that were read
    before stay valid.
    """

    def __init__(self, given: Mapping[str, str], path: Path | None) -> None:
        """Read the key file, if there is one.

        Args:
            given: The keys of ``API_KEYS``, by name.
            path: The key file, or None.

        Raises:
            KeyFileInvalid: the file cannot be read or is invalid.
        """
        self._given = {name: digest(key) for name, key in given.items()}
        self._path = path
        self._file_state = self._stat()
        self._keys = self._read()
        if path is not None and can_be_read_by_others(path):
            log.warning("%s (chmod 600 %s).", READ_BY_OTHERS.format(path), path)
        if not self._keys:
            log.warning(
                "API_KEYS_FILE=%s has no key: every call is refused. "
                "Add a key with 'code-interpreter-api keys add NAME'.",
                path,
            )

    def find(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Return the caller that sent these headers. Raises ``KeyMissing`` or ``KeyInvalid``."""
        keys = presented(headers)
        if not keys:
            raise KeyMissing
        # Two different keys: the owner of the request is ambiguous.
        if len(keys) > 1:
            raise KeyInvalid
        hashed = digest(keys.pop())
        self._refresh()
        found = None
        # Compare with all keys, so that the time does not depend on which key matches.
        for name, known in self._keys.items():
            if hmac.compare_digest(hashed, known):
                found = name
        if found is None:
            raise KeyInvalid
        return Caller(owner=found, tenant=found)

    def _refresh(self) -> None:
        """Read the file again if it has changed. So the next request with a removed key is refused."""
        state = self._stat()
        if state == self._file_state:
            return
        self._file_state = state
        try:
            self._keys = self._read()
        except KeyFileInvalid as error:
            log.error("%s The keys that were read before stay valid.", error)
        else:
            log.info("API_KEYS_FILE has changed: there are %d keys now", len(self._keys))

    def _stat(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            stat = os.stat(self._path)
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _read(self) -> Keys:
        if self._path is None:
            return self._given
        try:
            return distinct((*self._given.items(), *read_trusted_key_file(self._path).items()))
        except ValueError as error:
            raise KeyFileInvalid(self._path, f"{error} (in API_KEYS and the file together)") from error


def without_keys(headers: Iterable[tuple[bytes, bytes]]) -> Caller:
    """Return the caller of a request to a service without keys. All callers have the same owner.

    A key in the headers still selects a tenant, so that callers with different keys share no container.
    """
    keys = presented(headers)
    return Caller(ONE_TENANT, digest(b"\0".join(sorted(keys))).hex() if keys else "")
