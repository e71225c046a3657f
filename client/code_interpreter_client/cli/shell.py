"""`code-interpreter shell`: an interactive session."""

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from code_interpreter_client.cli import problems
from code_interpreter_client.cli.outcome import Outcome
from code_interpreter_client.cli.problems import Problem, report
from code_interpreter_client.cli.run import handling_interrupts, interrupting
from code_interpreter_client.cli.terminal import one_line
from code_interpreter_client.cli.transfers import receiving, sending
from code_interpreter_client.client import Client, Session
from code_interpreter_client.errors import CodeInterpreterError, NoInputRequest, SessionEnded
from code_interpreter_client.local_paths import path_beneath
from code_interpreter_client.models.events import InputRequest

_HELP: Final = """\
Enter runs a complete cell, an empty line ends a block, and Alt-Enter runs the cell in any case. Tab
completes names, Ctrl-R searches the history, Ctrl-C interrupts running code, Ctrl-D leaves the shell.

%upload FILE [PATH]      copy a local file into the workspace
%download PATH [FILE]    copy a file of the workspace to this machine
%files                   list the files of the workspace
%restart                 start a new kernel: variables are lost, files stay
%help                    show this text; `name?` shows the documentation of a name"""

_LEAVING: Final = frozenset({"exit", "quit", "exit()", "quit()"})


@click.command()
@click.option("--session", "session_id", metavar="ID", help="Continue this session, which stays open.")
@click.option("--ttl", default=3600, show_default=True, help="Seconds until a new session expires.")
@click.option("--timeout", default=10.0, show_default=True, help="Time limit of a cell in seconds.")
@click.option(
    "--out",
    default=Path("out"),
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to save images in.",
)
@click.pass_obj
def shell(url: str | None, session_id: str | None, ttl: int, timeout: float, out: Path) -> None:
    """Run Python interactively. A new session ends with the shell."""
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise Problem("The shell needs a terminal. To run code from a pipe, use `code-interpreter run -`.")
    with Client(url) as client:
        opened = client.attach(session_id) if session_id else client.session(ttl=ttl)
        with opened as session:
            health = client.health()
            click.echo(
                f"Code Interpreter {one_line(health.version)} at {client.url}. Help: %help; leave: Ctrl-D."
            )
            Shell(client, session, timeout, out).run()


class Shell:
    """Reads cells and runs them until the user leaves or the session ends."""

    def __init__(self, client: Client, session: Session, timeout: float, out: Path) -> None:
        self._client = client
        self._session = session
        self._timeout = timeout
        self._out = out
        # This import doubles the start-up time, and no other command needs it.
        from code_interpreter_client.cli.prompt import Prompt  # noqa: PLC0415

        self._prompt = Prompt(session)
        self._count = session.describe().execution_count
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "%upload": self._upload,
            "%download": self._download,
            "%files": self._files,
            "%restart": self._restart,
            "%help": lambda _: click.echo(_HELP),
        }

    def run(self) -> None:
        """Read and run cells until Ctrl-D or `quit`. Raises `SessionEnded`."""
        while True:
            try:
                code = self._prompt.cell(self._count + 1)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if code.strip() in _LEAVING:
                return
            try:
                self._perform(code)
            except KeyboardInterrupt:
                continue
            except SessionEnded:
                raise
            except problems.EXPECTED as error:
                report(problems.sentence(error))

    def _perform(self, code: str) -> None:
        words = code.split()
        if not words:
            return
        command = self._commands.get(words[0])
        if command is not None:
            command(words[1:])
        else:
            self._execute(code)

    def _execute(self, code: str) -> None:
        outcome = Outcome(self._client, self._out)
        stream = self._session.stream(code, timeout=self._timeout)
        with handling_interrupts(interrupting(self._session)), stream as events:
            for event in events:
                if isinstance(event, InputRequest):
                    outcome.end_line()
                    self._answer(event)
                else:
                    outcome.show(event)
        result = stream.result
        assert result is not None
        outcome.end_line()
        if result.timed_out:
            report(f"the cell timed out after {self._timeout:g} s; --timeout sets the limit")
        if result.state != "kept":
            report(result.state_reason)
        if result.notice:
            report(result.notice)
        self._count = result.execution_count or self._count
        if result.state == "restarted" and result.execution_count is None:
            self._count = 0

    def _answer(self, request: InputRequest) -> None:
        try:
            value = self._prompt.answer(request.prompt, hidden=request.password)
        except (KeyboardInterrupt, EOFError):
            with suppress(CodeInterpreterError):
                self._session.interrupt()
            return
        # The cell may have timed out in the meantime.
        with suppress(NoInputRequest):
            self._session.answer(value)

    # --- the shell's own commands -------------------------------------------------------------------

    def _upload(self, words: list[str]) -> None:
        match words:
            case [local] | [local, _]:
                source = Path(local).expanduser()
                with sending(source) as content:
                    written = self._session.upload(words[1] if len(words) > 1 else source.name, content)
                click.echo(f"{one_line(written.path)}: {written.size_bytes} bytes")
            case _:
                report("usage: %upload FILE [PATH]")

    def _download(self, words: list[str]) -> None:
        match words:
            case [path] | [path, _]:
                target = Path(words[1]).expanduser() if len(words) > 1 else path_beneath(Path(), path)
                sizes = {file.path: file.size_bytes for file in self._session.list_files()}
                with receiving(path, sizes.get(path)) as progress:
                    self._session.download_file(path, target, progress=progress)
                click.echo(f"{target}: {target.stat().st_size} bytes")
            case _:
                report("usage: %download PATH [FILE]")

    def _files(self, _: list[str]) -> None:
        for file in self._session.list_files():
            click.echo(f"{file.size_bytes:>12}  {one_line(file.path)}")

    def _restart(self, _: list[str]) -> None:
        self._session.restart()
        self._count = 0
        click.echo("A new kernel is ready. Variables are lost; files are kept.")
