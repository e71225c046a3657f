"""The shell's prompt: history, completion, colours, and cells with several lines."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, ThreadedCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import has_completions
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.python import PythonLexer

from code_interpreter_client import configuration
from code_interpreter_client.cli.source import indent_after, is_complete
from code_interpreter_client.cli.terminal import TerminalText, one_line
from code_interpreter_client.client import Session
from code_interpreter_client.errors import CodeInterpreterError

_COMMANDS: Final = ("%upload", "%download", "%files", "%restart", "%help")
_INDENT: Final = "    "


class Prompt:
    """Reads cells, and the lines that running code asks for."""

    def __init__(self, session: Session) -> None:
        self._cells: PromptSession[str] = PromptSession(
            history=_history(),
            completer=ThreadedCompleter(KernelCompleter(session)),
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            lexer=PygmentsLexer(PythonLexer),
            multiline=True,
            key_bindings=_keys(),
        )
        self._answers: PromptSession[str] = PromptSession(history=InMemoryHistory())

    def cell(self, number: int) -> str:
        """Read the cell with this number. Raises `KeyboardInterrupt`; `EOFError` after Ctrl-D."""
        prompt = f"In [{number}]: "
        return self._cells.prompt(prompt, prompt_continuation=" " * (len(prompt) - 5) + "...: ")

    def answer(self, prompt: str, *, hidden: bool) -> str:
        """Read one line for code that calls `input()`. Raises `KeyboardInterrupt`, `EOFError`."""
        return self._answers.prompt(ANSI(TerminalText().clean(prompt)), is_password=hidden)


class KernelCompleter(Completer):
    """Completes names with the help of the session's kernel."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Return completions; none if the kernel does not answer."""
        code, cursor = document.text, document.cursor_position
        if code.startswith("%") and " " not in code[:cursor]:
            yield from (
                Completion(command, -cursor) for command in _COMMANDS if command.startswith(code[:cursor])
            )
        try:
            found = self._session.complete(code, cursor)
        except CodeInterpreterError:
            return
        for match in found.matches:
            if match.isprintable():
                yield Completion(match, min(0, found.cursor_start - cursor), display=one_line(match))


def _history() -> History:
    """Return the history of earlier shells, or an empty one if it cannot be stored."""
    file = configuration.state_folder() / "history"
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(Path(file)))


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=~has_completions)
    def _run_or_go_on(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        at_end = not buffer.document.text_after_cursor.strip()
        if at_end and is_complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n" + indent_after(buffer.document.current_line_before_cursor))

    @keys.add("enter", filter=has_completions)
    def _take_completion(event: KeyPressEvent) -> None:
        event.current_buffer.complete_state = None

    @keys.add("escape", "enter")
    def _run(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("tab")
    def _complete_or_indent(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state:
            buffer.complete_next()
        elif buffer.document.current_line_before_cursor.strip():
            buffer.start_completion(insert_common_part=True)
        else:
            buffer.insert_text(_INDENT)

    return keys
