"""How the text of an environment variable becomes the value of a setting."""

import re
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIB: Final = 1024 * 1024
"""Bytes in a MiB; the settings' "MB" means MiB."""

_EMPTY_LIST: Final = "none"
"""An empty variable means the default, so the empty list needs a word."""


class Group(BaseSettings):
    """A group of settings. The upper-cased name of a field is its environment variable.

    An empty variable counts as unset. A group cannot be changed once it is read.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="forbid")


def _split(value: object) -> object:
    """Turn ``"numpy, pandas"`` into ``("numpy", "pandas")``, and ``"none"`` into ``()``."""
    if not isinstance(value, str):
        return value
    if value.strip().lower() == _EMPTY_LIST:
        return ()
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _split_pairs(value: object) -> object:
    """Turn ``"pool=kernels, disk=ssd"`` into ``(("pool", "kernels"), ("disk", "ssd"))``."""
    names = _split(value)
    if names is value:
        return value
    pairs = tuple(tuple(name.split("=", 1)) for name in names) if isinstance(names, tuple) else ()
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("it has to be NAME=VALUE,NAME=VALUE")
    return pairs


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


Lower: Final = BeforeValidator(_lower)
"""Lets a value be written in capitals, too."""
Upper: Final = BeforeValidator(_upper)

Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""A comma-separated list; ``NoDecode`` because pydantic-settings would expect JSON."""
Pairs = Annotated[tuple[tuple[str, str], ...], NoDecode, BeforeValidator(_split_pairs)]
Page = Literal["docs", "metrics", "page"]
Pages = Annotated[tuple[Page, ...], NoDecode, BeforeValidator(_split)]


def without_password(text: str) -> str:
    """Return the text without the user and password of a URL in it."""
    return re.sub(r"//[^/]*@", "//", text)
