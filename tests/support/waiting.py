"""Waiting for a condition."""

import time
from collections.abc import Callable


def soon(condition: Callable[[], object], seconds: float = 60) -> bool:
    """Wait for a condition, and return whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
