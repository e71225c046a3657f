"""The shell on a real terminal."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from code_interpreter_client import Client
from tests.client.command import on_terminal
from tests.support.process import Service

CTRL_C, CTRL_D, CTRL_R = "\x03", "\x04", "\x12"


class Typist:
    """A user of the shell at a terminal."""

    def __init__(self, terminal: Any) -> None:
        self.terminal = terminal

    def prompt(self, number: int) -> None:
        """Wait for the prompt with this number."""
        self.terminal.expect_exact(f"In [{number}]:")

    def type(self, keys: str, *answers: str) -> None:
        """Type keys and wait for each answer, in order. The terminal echoes the keys."""
        self.terminal.send(keys)
        for answer in answers:
            self.terminal.expect(answer)

    def leave(self) -> int:
        """Type Ctrl-D and return the exit status."""
        self.terminal.send(CTRL_D)
        self.terminal.expect_exact("\r\n")
        status: int = self.terminal.wait()
        return status


@pytest.fixture
def typist(service: Service, folder: Path) -> Iterator[Typist]:
    """Start a shell with a new session."""
    terminal = on_terminal(service.base_url, folder, "shell", "--timeout", "28")
    yield Typist(terminal)
    terminal.close(force=True)


def sessions(service: Service) -> int:
    """Return the number of open sessions."""
    with Client(service.base_url) as client:
        return len(client.list_sessions())


def test_shell_runs_cells_and_completes_names(typist: Typist, service: Service, folder: Path) -> None:
    """Values, blocks, completion, images, files and history work; the session ends with the shell."""
    before = sessions(service)
    typist.prompt(1)
    assert sessions(service) == before + 1
    typist.type("treasure_chest = 6 * 7\r")
    typist.prompt(2)
    typist.type("'a' 'b', treas\t", "ure_chest")
    typist.type("\r", r"\('ab', 42\)")
    typist.prompt(3)
    typist.type("for i in range(3):\rprint('row', i * 11)\r\r", "row 0", "row 11", "row 22")
    typist.prompt(4)
    typist.type(
        "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()\r", r"\[image: out/image-1.png\]"
    )
    with PIL.Image.open(folder / "out" / "image-1.png") as image:
        assert image.format == "PNG"
    typist.prompt(5)
    (folder / "up.txt").write_text("hello")
    typist.type("%upload up.txt in/it.txt\r", "in/it.txt: 5 bytes")
    typist.type("%files\r", "5  in/it.txt")
    typist.type("%download in/it.txt got.txt\r", "got.txt: 5 bytes")
    typist.type("%download no-such\r", "code-interpreter: .* no file")
    typist.prompt(5)
    assert (folder / "got.txt").read_text() == "hello"
    typist.type("len?\r", "Return the number of items")
    typist.prompt(6)
    typist.type("%restart\r", "A new kernel")
    typist.prompt(1)
    typist.type("treasure_chest\r", "NameError")
    typist.prompt(2)
    assert typist.leave() == 0
    assert sessions(service) == before
    history = (folder / ".local/state/code-interpreter/history").read_text()
    assert "+treasure_chest = 6 * 7\n" in history


def test_shell_interrupts_cells_and_answers_input(typist: Typist) -> None:
    """Ctrl-C clears a line or interrupts a cell, also one that waits for input."""
    typist.prompt(1)
    typist.type("half a line" + CTRL_C)
    typist.prompt(1)
    typist.type("import time; kept = 1; print('be' + 'gan', flush=True); time.sleep(25)\r", "began")
    typist.type(CTRL_C, "KeyboardInterrupt")
    typist.prompt(2)
    typist.type("print('hello', input('your ' + 'name? '))\r", "your name\\?")
    typist.type("Ada\r", "hello Ada")
    typist.prompt(3)
    typist.type("import getpass; len(getpass.getpass('the ' + 'word? '))\r", "the word\\?")
    typist.type("secret\r", "6")
    typist.prompt(4)
    assert "secret" not in re.sub(r".*In \[3\]", "", str(typist.terminal.before), flags=re.DOTALL)
    typist.type("input('and ' + 'now? ')\r", "and now\\?")
    time.sleep(0.3)
    typist.type(CTRL_C, "KeyboardInterrupt")
    typist.prompt(5)
    typist.type("kept\r", "1")
    typist.prompt(6)
    typist.type("quit()\r")
    assert typist.terminal.wait() == 0


def test_shell_continues_a_session_and_reports_its_end(service: Service, folder: Path) -> None:
    """Variables of the session are there. When another client deletes the session, the shell exits."""
    with Client(service.base_url) as client:
        session = client.session()
        session.run("there = 'already'")
        terminal = on_terminal(service.base_url, folder, "shell", "--session", session.session_id)
        typist = Typist(terminal)
        typist.prompt(2)
        typist.type("there\r", "'already'")
        typist.prompt(3)
        assert typist.leave() == 0
        assert session.run("there").stdout == "'already'\n"
        terminal = on_terminal(service.base_url, folder, "shell", "--session", session.session_id)
        typist = Typist(terminal)
        typist.prompt(4)
        session.delete()
        typist.type("there\r", "code-interpreter: Session '.*' has ended: deleted")
        assert terminal.wait() == 1
