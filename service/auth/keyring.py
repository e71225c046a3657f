"""API keys: who may ask, and whose things they see.

A key belongs to a name, and what a key makes belongs to its name: files, sessions, executions. Only
SHA-256 hashes are kept: keys are long and random, so that guessing from a hash is hopeless and a
slow hash would buy nothing. The key file has a line ``NAME:sha256:HEX`` for each key.
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
from service.settings.api_keys import KEY_NAME, distinct
from sessions.models import Caller
from sessions.records import ONE_TENANT

log = logging.getLogger(__name__)

SHORT_KEY: Final = 20
"""Characters; a shorter key may be guessed."""

_LINE = re.compile(rf"({KEY_NAME.pattern}):sha256:([0-9a-f]{{64}})")

Keys = dict[str, bytes]
"""Names, and the SHA-256 of the key of each."""


def digest(key: str | bytes) -> bytes:
    """The SHA-256 of a key."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()


def read_key_file(path: Path) -> Keys:
    """The keys of a file. Raises ``KeyFileInvalid``."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileInvalid(path, getattr(error, "strerror", None) or "it is not text") from error
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


def presented(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """The keys that the headers of a request carry; empty ones are none."""
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
    """The keys that are valid: those of ``API_KEYS``, and those of a file as it is now.

    Raises ``KeyFileInvalid`` when made. A file that becomes unusable later is told in the log, and
    the keys that it had stay valid.
    """

    def __init__(self, given: Mapping[str, str], path: Path | None) -> None:
        """``given`` has keys by name."""
        self._given = {name: digest(key) for name, key in given.items()}
        self._path = path
        self._file_state = self._look()
        self._keys = self._read()
        if not self._keys:
            log.warning("API_KEYS_FILE=%s has no key: every call is refused.", path)

    def find(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Who sent a request with these headers. Raises ``KeyMissing`` or ``KeyInvalid``."""
        keys = presented(headers)
        if not keys:
            raise KeyMissing
        # Two keys that differ: it would be a guess whose request it is.
        if len(keys) > 1:
            raise KeyInvalid
        hashed = digest(keys.pop())
        self._refresh()
        found = None
        # All are compared, so that the time tells nothing.
        for name, known in self._keys.items():
            if hmac.compare_digest(hashed, known):
                found = name
        if found is None:
            raise KeyInvalid
        return Caller(owner=found, tenant=found)

    def _refresh(self) -> None:
        """Read the file again if it has changed: a key that was removed ends with the next request."""
        state = self._look()
        if state == self._file_state:
            return
        self._file_state = state
        try:
            self._keys = self._read()
        except KeyFileInvalid as error:
            log.error("%s The keys read before stay valid.", error)
        else:
            log.info("read the API keys again: there are %d", len(self._keys))

    def _look(self) -> tuple[int, int, int] | None:
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
            return distinct((*self._given.items(), *read_key_file(self._path).items()))
        except ValueError as error:
            raise KeyFileInvalid(self._path, f"{error} (API_KEYS counts as well)") from error


def without_keys(headers: Iterable[tuple[bytes, bytes]]) -> Caller:
    """The caller where no keys are set: all are one owner; a key still keeps containers apart."""
    keys = presented(headers)
    return Caller(ONE_TENANT, digest(b"\0".join(sorted(keys))).hex() if keys else "")
