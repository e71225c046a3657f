"""Progress messages. They go to standard error, so that standard output has only the tables."""

import sys


def say(text: str) -> None:
    """Print one line and flush it."""
    print(text, file=sys.stderr, flush=True)
