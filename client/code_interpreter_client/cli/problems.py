"""What goes wrong becomes one sentence and an exit status."""

import click

from code_interpreter_client.cli.terminal import one_line
from code_interpreter_client.errors import CodeInterpreterError, Refused, Unauthorized, Unreachable

FAILED = 1
OUR_FAILURE = 125
"""Of `run`, whose other exit statuses are the code's; `timeout` and `docker run` have the same."""
TIMED_OUT = 124
INTERRUPTED = 130


class Problem(click.ClickException):
    """Something that cannot be done; the message is a sentence."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def sentence(error: Exception) -> str:
    """What a person is told of an error."""
    match error:
        case Unreachable():
            return f"{error}. Is it running? CODE_INTERPRETER_URL or --url says where it is."
        case Unauthorized():
            return f"{error}. CODE_INTERPRETER_API_KEY is where the key belongs."
        case Refused(retry_after=float(seconds)):
            return f"{error} (try again in {seconds:.0f} s)"
        case OSError(strerror=str(reason), filename=str(name)):
            return f"{name}: {reason}"
    return str(error) or type(error).__name__


def tell(message: str) -> None:
    """Say something on stderr."""
    click.echo(f"code-interpreter: {one_line(' '.join(message.split()))}", err=True)


EXPECTED = (CodeInterpreterError, OSError, ValueError)
"""What is told in a sentence; all else is a fault of this program."""
