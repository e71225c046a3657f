"""What is being done, for whoever waits: on standard error, so that the table stays clean."""

import sys


def say(text: str) -> None:
    """Print one line at once."""
    print(text, file=sys.stderr, flush=True)
