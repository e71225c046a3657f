"""Errors of the command line: one sentence on stderr, and an exit status."""

import re
from typing import Final

import click

from code_interpreter_client.cli.terminal import one_line
from code_interpreter_client.errors import CodeInterpreterError, Refused, Unauthorized, Unreachable

FAILED = 1
OUR_FAILURE = 125
"""The exit status of `run` for errors that are not the code's, as in `timeout` and `docker run`."""
TIMED_OUT = 124
INTERRUPTED = 130


_TOO_LONG: Final = re.compile(r"timeout_ms exceeds maximum of (\d+) ms")


class Problem(click.ClickException):
    """An error that the user can correct. The message is a sentence."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def sentence(error: Exception) -> str:
    """Return an error as a sentence that says what happened and what to do."""
    match error:
        case Unreachable():
            return f"{error}. Is it running? Set its address with CODE_INTERPRETER_URL or --url."
        case Unauthorized():
            return f"{error}. Set the API key in CODE_INTERPRETER_API_KEY."
        case Refused() if found := _TOO_LONG.fullmatch(error.detail):
            return f"--timeout is at most {int(found[1]) / 1000:g} s in this service"
        case Refused(retry_after=float(seconds)):
            return f"{error} (try again in {seconds:.0f} s)"
        case OSError(strerror=str(reason), filename=str(name)):
            return f"{name}: {reason}"
    return str(error) or type(error).__name__


def report(message: str) -> None:
    """Print a message on stderr, as one line."""
    click.echo(f"code-interpreter: {one_line(' '.join(message.split()))}", err=True)


EXPECTED = (CodeInterpreterError, OSError, ValueError)
"""The errors that are reported as a sentence. Any other error is a bug in this program."""
