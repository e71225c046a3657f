"""A cell's changes to the standard streams end with the cell: the next one prints and reports errors."""

import pytest

from tests.support.process import Service
from tests.support.session import Session

HARM = {
    "a wrapper of the buffer": (
        "import sys, io; sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8'); print('中')"
    ),
    "wrappers of both buffers": "import sys, io\nfor name in ('stdout', 'stderr'):\n"
    "    setattr(sys, name, io.TextIOWrapper(getattr(sys, name).buffer, "
    "encoding='utf-8', line_buffering=True))",
    "a writer of codecs": "import sys, codecs; sys.stdout = codecs.getwriter('utf-8')(sys.stdout.buffer)",
    "a writer on the detached buffer": (
        "import sys, codecs; sys.stdout = codecs.getwriter('utf-8')(sys.stdout.detach())"
    ),
    "a wrapper of the detached buffer": (
        "import sys, io; sys.stdout = io.TextIOWrapper(sys.stdout.detach(), 'utf-8')"
    ),
    "detached streams": "import sys; a, b, c = sys.stdout.detach(), sys.stderr.detach(), sys.stdin.detach()",
    "a detached raw stream": "import sys; raw = sys.stdout.buffer.detach()",
    "closed streams": "import sys; sys.stdout.close(); sys.stderr.close(); sys.stdin.close()",
    "closed buffers": "import sys; sys.stdout.buffer.close(); sys.stderr.buffer.raw.close()",
    "closed descriptors": "import os; [os.close(number) for number in (0, 1, 2)]",
    "streams as context managers": (
        "import sys\nwith sys.stdout: pass\nwith open(1, 'w'): pass\nwith open(2, 'w'): pass"
    ),
    "a StringIO": "import sys, io; sys.stdout = sys.stderr = io.StringIO(); print('lost')",
    "None": "import sys; sys.stdout = sys.stderr = sys.stdin = None",
    "a number": "import sys; sys.stdout = sys.stderr = sys.stdin = 5",
    "no attribute": "import sys; del sys.stdout, sys.stderr, sys.stdin",
    "a redirection that is not undone": (
        "import contextlib, io; contextlib.redirect_stdout(io.StringIO()).__enter__()"
    ),
    "another encoding": (
        "import sys; sys.stdout.reconfigure(encoding='utf-16', newline='\\r\\n"
        "'); sys.stderr.reconfigure(encoding='ascii', errors='strict')"
    ),
    "an object that fails": (
        "import sys\nclass Bad:\n    def write(self, text): raise "
        "RuntimeError\n    flush = write\nsys.stdout = sys.stderr = Bad()"
    ),
    "replaced originals": (
        "import sys, io; sys.__stdout__ = sys.__stderr__ = sys.stdout = sys.stderr = io.StringIO()"
    ),
    "a descriptor that is a file": "import os; os.dup2(os.open('log', os.O_CREAT | os.O_WRONLY), 1)",
    "all descriptors": (
        "kept = []\ntry:\n    while True: kept.append(open('/dev/null'))\nexcept OSError: pass"
    ),
    "all descriptors by sockets": (
        "import socket\npairs = []\ntry:\n    while True: pairs += socket.socketpair()\nexcept OSError: pass"
    ),
}
"""Programs that replace, wrap, close or use up what the next program needs."""


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM.keys())
def test_next_cell_prints_and_shows_values_and_errors(session: Session, harm: str) -> None:
    """The session keeps its variables, and its text, values, input and errors are as before."""
    session.run(f"mine = 1\n{harm}", timeout_ms=10_000)
    result = session.run(
        "import sys\nprint('ok', '中', sys.stdin.read())\nprint('err', file=sys.stderr)\nmine", stdin="in"
    )
    assert (result["stdout"], result["stderr"], result["exit_code"]) == ("ok 中 in\n1\n", "err\n", 0)
    result = session.run("1 / 0")
    assert (result["exit_code"], result["error"]["name"]) == (1, "ZeroDivisionError")
    assert result["stderr"].endswith("ZeroDivisionError: division by zero\n")
    session.run("kept = pairs = []")


def test_wrapper_of_an_earlier_cell_still_prints(session: Session) -> None:
    """A stream that a program keeps is flushed at the end of each cell."""
    session.run("import sys, io\nmine = sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')")
    assert session.printed("mine.write('later')\nNone") == "later"
    session.run("buffer = sys.stdout.detach()")
    assert session.printed("buffer.write(b'bytes')\nNone") == "bytes"


@pytest.mark.parametrize(
    "close", ["import os; os.close(1)", "open(1, 'w').write('')", "f = open(1, 'w')\nf.close()"]
)
def test_print_works_after_the_descriptor_was_closed(session: Session, close: str) -> None:
    """The stream opens the descriptor again, in the same cell and in later ones."""
    assert session.printed(f"{close}\nprint('same')") == "same"
    assert session.printed("print('next')") == "next"


def test_program_that_opens_files_without_end_fails_at_once(session: Session, service: Service) -> None:
    """Its error is the same in a session and without one."""
    code = "files = []\nwhile True: files.append(open('/dev/null'))"
    for result in (session.run(code, timeout_ms=20_000), service.api.run(code, timeout_ms=20_000)):
        assert (result["exit_code"], result["timed_out"], result["error"]["name"]) == (1, False, "OSError")
        assert "Too many open files" in result["error"]["value"]
    assert session.printed("print(len(files) > 100)\nfiles = []") == "True"
