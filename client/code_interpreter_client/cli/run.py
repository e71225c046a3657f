"""`code-interpreter run`: runs a local script in the service."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import click

from code_interpreter_client.cli import problems
from code_interpreter_client.cli.outcome import Outcome
from code_interpreter_client.cli.problems import OUR_FAILURE, Problem, report
from code_interpreter_client.cli.transfers import sending
from code_interpreter_client.client import Client, Session, Stream
from code_interpreter_client.errors import CodeInterpreterError
from code_interpreter_client.models.files import StoredFile
from code_interpreter_client.models.results import Result


@click.command()
@click.argument("script", required=False)
@click.option("-c", "code", metavar="CODE", help="Code to run instead of a script.")
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="FILE[=PATH]",
    help="A file for the code, which finds it at PATH, by default its name.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to save files and images in."
)
@click.option("--timeout", default=10.0, show_default=True, help="Time limit in seconds.")
@click.option(
    "--stdin",
    "stdin",
    type=click.File("r"),
    help="File that the code reads as standard input; - for this command's.",
)
@click.option("--session", "session_id", metavar="ID", help="Run in this session, which stays open.")
@click.pass_obj
def run(
    url: str | None,
    script: str | None,
    code: str | None,
    files: tuple[str, ...],
    out: Path | None,
    timeout: float,
    stdin: TextIO | None,
    session_id: str | None,
) -> int:
    """Run SCRIPT, standard input (-) or CODE, and print its output while it runs.

    The exit status is the code's; 124 if the code timed out, 125 if it could not be run. Ctrl-C stops the
    code; in a session it interrupts the code.
    """
    if (script is None) == (code is None):
        raise click.UsageError("Give a script, - for standard input, or -c CODE.")
    try:
        source = code if code is not None else _read(str(script))
        text = None if stdin is None else stdin.read()
        with Client(url) as client:
            session = client.attach(session_id) if session_id else None
            return _run(client, session, source, files, out, timeout, text, show_last_line=code is not None)
    except BrokenPipeError:
        # The reader of standard output has closed it, as `head` does. click exits silently then.
        raise
    except problems.EXPECTED as error:
        raise Problem(problems.sentence(error), OUR_FAILURE) from error


def _read(script: str) -> str:
    data = sys.stdin.buffer.read() if script == "-" else Path(script).read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{script} is not UTF-8 text") from error


def _run(
    client: Client,
    session: Session | None,
    code: str,
    files: tuple[str, ...],
    out: Path | None,
    timeout: float,
    stdin: str | None,
    *,
    show_last_line: bool,
) -> int:
    with _stored(client, files) as inputs:
        options = {"stdin": stdin, "timeout": timeout, "show_last_line": show_last_line}
        if session is None:
            stream = client.stream(code, files=inputs, **options)  # type: ignore[arg-type]
        else:
            stream = session.stream(code, files=inputs, allow_input=False, **options)  # type: ignore[arg-type]
        outcome = Outcome(client, out)
        result = _followed(stream, outcome, session)
    outcome.close(result)
    if result.timed_out:
        report(f"the code timed out after {timeout:g} s; --timeout sets the limit")
        return problems.TIMED_OUT
    return problems.FAILED if result.exit_code is None else result.exit_code


def _followed(stream: Stream, outcome: Outcome, session: Session | None) -> Result:
    """Show the stream to its end. Ctrl-C closes it, and so stops the code, or interrupts it in a session."""
    handler = None if session is None else interrupting(session)
    with handling_interrupts(handler), stream as events:
        for event in events:
            outcome.show(event)
    assert stream.result is not None
    return stream.result


@contextmanager
def handling_interrupts(handler: Callable[[], None] | None) -> Iterator[None]:
    """Let Ctrl-C call `handler` during the block. With None it raises `KeyboardInterrupt` as usual."""
    if handler is None:
        yield
        return
    previous = signal.signal(signal.SIGINT, lambda *_: handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def interrupting(session: Session) -> Callable[[], None]:
    """Return a handler that interrupts the session's code while the main thread waits for events."""

    def interrupt() -> None:
        with suppress(CodeInterpreterError):
            session.interrupt()

    return lambda: threading.Thread(target=interrupt, daemon=True).start()


@contextmanager
def _stored(client: Client, files: tuple[str, ...]) -> Iterator[dict[str, StoredFile]]:
    """Upload the files for the duration of the block, and yield them by the paths for the code."""
    stored: dict[str, StoredFile] = {}
    try:
        for given in files:
            local, path = _local_and_remote(given)
            with sending(local) as content:
                stored[path] = client.upload(content, name=local.name)
        yield stored
    finally:
        for file in stored.values():
            # A file that cannot be deleted now expires later.
            with suppress(CodeInterpreterError):
                client.delete_file(file)


def _local_and_remote(given: str) -> tuple[Path, str]:
    local, equals, path = given.rpartition("=")
    if not equals or Path(given).exists():
        local, path = given, ""
    source = Path(local)
    if source.is_dir():
        raise ValueError(f"{local} is a folder; --file needs a file")
    return source, path or source.name
