"""Tries what must fail, for the probe."""

import errno
from collections.abc import Callable
from typing import Any


def outcome(action: Callable[..., object], *arguments: Any) -> str:
    """Try an action; return `done`, or the name of the error."""
    try:
        action(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return "done"
