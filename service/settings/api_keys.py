"""The text of API keys: their names, and the value of ``API_KEYS``."""

import re
from collections.abc import Hashable, Iterable
from typing import Final, TypeVar

KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# Characters that a header carries unchanged: no space, no comma, nothing outside ASCII.
_KEY: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]+")

Secret = TypeVar("Secret", bound=Hashable)


def check_name(name: str) -> str:
    """Return ``name``. Raises ``ValueError`` if a key may not have that name."""
    if not KEY_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid name: use 1 to 64 letters, digits, '.', '_' and '-'")
    return name


def split_keys(text: str) -> dict[str, str]:
    """Return the keys of ``"name:key,name:key"`` by name.

    Raises:
        ValueError: the text is invalid. The message says why and shows no key.
    """
    pairs: list[tuple[str, str]] = []
    for number, entry in enumerate(text.split(","), 1):
        name, colon, key = (part.strip() for part in entry.partition(":"))
        # The message does not show the entry: without a colon, all of it may be a key.
        if not colon or not KEY_NAME.fullmatch(name):
            raise ValueError(f"entry {number} is not NAME:KEY with letters, digits, '.', '_', '-' as NAME")
        if not key:
            raise ValueError(f"the key of {name!r} is empty")
        if not _KEY.fullmatch(key):
            raise ValueError(f"the key of {name!r} has characters other than visible ASCII ones")
        pairs.append((name, key))
    return distinct(pairs)


def distinct(pairs: Iterable[tuple[str, Secret]]) -> dict[str, Secret]:
    """Return a dictionary of names and keys. Raises ``ValueError`` if two names or two keys are equal.

    Names are compared without case: a database that ignores case would mix two owners' things.
    """
    keys: dict[str, Secret] = {}
    for name, secret in pairs:
        if name.lower() in (known.lower() for known in keys):
            raise ValueError(f"{name!r} occurs twice")
        if secret in keys.values():
            raise ValueError(f"{name!r} has the key of another name")
        keys[name] = secret
    return keys
