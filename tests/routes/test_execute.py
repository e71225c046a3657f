"""One execution: its text, the value of its last line, its end."""

import time
import uuid
from textwrap import dedent

import pytest

from tests.conftest import Run
from tests.support.process import Service

# Output ------------------------------------------------------------------------------------------


def test_prints_descriptor_writes_and_children_keep_their_order(run: Run) -> None:
    """Whichever way the code writes to standard output, lines arrive in the order written."""
    result = run(
        dedent("""
            import os, subprocess, sys
            print("one")
            os.write(1, b"two\\n")
            subprocess.run(["echo", "three"])
            print("four")
            os.system("echo five")
            sys.stdout.buffer.write(b"six\\n")
            print("seven", file=sys.__stdout__)
            sys.stdout.write("eight\\n")
            subprocess.run([sys.executable, "-c", "print('nine')"])
            print("ten", end="")
            None
        """)
    )
    expected = "one two three four five six seven eight nine ten".replace(" ", "\n")
    assert result["stdout"] == expected
    assert result["stderr"] == ""
    assert result["exit_code"] == 0


def test_standard_error_is_kept_apart_and_in_order(run: Run) -> None:
    """Warnings, logging, descriptor 2 and children's errors go to `stderr` and nowhere else."""
    result = run(
        dedent("""
            import logging, os, subprocess, sys, warnings
            print("plain")
            print("one", file=sys.stderr)
            os.write(2, b"two\\n")
            subprocess.run(["sh", "-c", "echo three >&2"])
            logging.warning("four")
            warnings.warn("five")
        """)
    )
    assert result["stdout"] == "plain\n"
    assert result["stderr"].startswith("one\ntwo\nthree\nWARNING:root:four\n")
    assert "UserWarning: five" in result["stderr"]
    assert result["error"] is None
    assert result["exit_code"] == 0


def test_output_is_complete_and_exact_however_it_is_chopped(run: Run) -> None:
    """Ten thousand lines by two roads come back whole, and nothing is added at the end."""
    result = run(
        dedent("""
            import os
            for i in range(5000):
                print("print", i)
                os.write(1, b"write %d\\n" % i)
            print("the end has no newline", end="")
        """)
    )
    lines = result["stdout"].split("\n")
    assert lines[:-1] == [f"{how} {i}" for i in range(5000) for how in ("print", "write")]
    assert lines[-1] == "the end has no newline"
    assert result["truncated"] == []


def test_text_of_every_script_comes_back_as_written(run: Run) -> None:
    """Emoji, CJK, right-to-left text, NUL, escape codes and odd line ends pass unchanged."""
    text = "héllo 你好 🎉 שלום \x00 \x1b[31mred\x1b[0m a\u2028b\x85c\x0bd\x0ce \ufeff\U0010ffff"
    result = run(f"print({text!r})")
    assert result["stdout"] == text + "\n"


def test_a_character_written_in_two_halves_arrives_whole(run: Run) -> None:
    """A multi-byte character split over two writes is one character."""
    code = "import os, time\nos.write(1, b'\\xe2\\x82'); time.sleep(0.2); _ = os.write(1, b'\\xac')"
    assert run(code)["stdout"] == "€"


def test_bytes_that_are_not_utf8_become_replacement_characters(run: Run) -> None:
    """Binary output never spoils the response."""
    result = run(r"import os; _ = os.write(1, b'\xff\xfeab\n'); _ = os.write(2, b'ok\xc3')")
    assert result["stdout"] == "\ufffd\ufffdab\n"
    assert result["stderr"] == "ok\ufffd"


def test_printing_a_lone_surrogate_is_no_error_of_the_service(run: Run) -> None:
    """The text causes an error of the code or a replacement character, as in plain Python."""
    result = run("print('before'); print('\\ud800')")
    assert result["stdout"].startswith("before\n")
    assert result["exit_code"] == 0 or result["error"]["name"] == "UnicodeEncodeError"


def test_redirected_output_stays_where_it_was_sent(run: Run) -> None:
    """`contextlib.redirect_stdout` captures prints and lets go of them."""
    result = run(
        dedent("""
            import contextlib, io
            with contextlib.redirect_stdout(io.StringIO()) as held:
                print("held")
            print("shown", repr(held.getvalue()))
        """)
    )
    assert result["stdout"] == "shown 'held\\n'\n"


def test_code_that_closes_its_standard_output_loses_only_later_text(run: Run) -> None:
    """The rest of the execution is unaffected."""
    result = run("import os\nprint('before')\nos.close(1)\nopen('file.txt', 'w').write('still here')\nNone")
    assert result["stdout"].startswith("before\n")
    assert [file["path"] for file in result["files"]] == ["file.txt"]
    assert run("print('next')")["stdout"] == "next\n"


def test_standard_streams_have_descriptors(run: Run) -> None:
    """Code that needs real descriptors works: faulthandler, `fileno`, a child process with our `stdout`."""
    result = run(
        dedent("""
            import faulthandler, subprocess, sys
            faulthandler.dump_traceback()
            subprocess.run(["echo", "child"], stdout=sys.stdout, stderr=sys.stderr)
            print(sys.stdout.fileno(), sys.stderr.fileno(), sys.stdout.isatty())
        """)
    )
    assert "most recent call first" in result["stderr"]
    assert result["stdout"] == "child\n1 2 False\n"


def test_background_process_does_not_delay_the_answer(run: Run) -> None:
    """The process has the output of the code open, and ends with the execution."""
    result = run("import subprocess\nsubprocess.Popen(['sleep', '600'])\nprint('done')")
    assert result["stdout"] == "done\n"
    assert (result["exit_code"], result["timed_out"]) == (0, False)


# The last line -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        ("2 + 2", "4\n"),
        ("'text'", "'text'\n"),
        ("1\n2", "2\n"),
        ("x = [1, 2]\nx  # a comment\n\n", "[1, 2]\n"),
        ("print('said')\n(1,\n 2)", "said\n(1, 2)\n"),
        ("print('no newline', end='')\n7", "no newline7\n"),
    ],
)
def test_a_last_expression_is_shown(run: Run, code: str, stdout: str) -> None:
    """The value of a last expression goes to `stdout` with a newline, and to `outputs`."""
    result = run(code)
    assert result["stdout"] == stdout
    assert result["exit_code"] == 0
    (output,) = result["outputs"]
    assert output["output_type"] == "execute_result"
    assert stdout.endswith(output["data"]["text/plain"] + "\n")


@pytest.mark.parametrize(
    "code",
    [
        "None",
        "x = 1",
        "41 + 1;",
        "for i in range(3):\n    i",
        "def f():\n    return 1",
        "print('', end='')",
        "",
        "   \n\n\t\n",
        "# only a comment",
    ],
)
def test_code_without_a_last_value_shows_nothing(run: Run, code: str) -> None:
    """Statements, `None`, a trailing semicolon and empty code show nothing and succeed."""
    result = run(code)
    assert (result["stdout"], result["stderr"], result["outputs"]) == ("", "", [])
    assert (result["exit_code"], result["error"], result["files"]) == (0, None, [])


def test_last_line_interactive_false_shows_nothing(run: Run) -> None:
    """Without `last_line_interactive` the code runs as a script: only what it prints."""
    result = run("print('said')\n2 + 2", last_line_interactive=False)
    assert result["stdout"] == "said\n"
    assert result["outputs"] == []


def test_a_data_frame_on_the_last_line_is_its_table(run: Run) -> None:
    """A DataFrame's text form is on `stdout` as pandas prints it."""
    result = run("import pandas as pd\npd.DataFrame({'a': [1, 2]})")
    assert result["stdout"] == "   a\n0  1\n1  2\n"
    assert "<table" in result["outputs"][0]["data"]["text/html"]


def test_a_very_long_value_is_shown_whole_up_to_the_limit(run: Run) -> None:
    """A last line of 300 kB is complete; one of 3 MB is cut as other output is."""
    whole = run("'x' * 300_000")
    assert whole["stdout"] == repr("x" * 300_000) + "\n"
    cut = run("'x' * 3_000_000")
    assert "stdout" in cut["truncated"]
    assert cut["stdout"].endswith("\n...[truncated: MAX_OUTPUT_BYTES=1048576]\n")
    assert cut["exit_code"] == 0


# Exceptions --------------------------------------------------------------------------------------


def test_an_uncaught_exception_is_a_plain_traceback(run: Run) -> None:
    """The traceback is in `stderr`, without colours, names the line, and the exit code is 1."""
    code = "print('before')\ndef divide():\n    return 1 / 0\ndivide()\nprint('never')"
    result = run(code)
    assert result["stdout"] == "before\n"
    assert result["exit_code"] == 1
    assert "Traceback (most recent call last)" in result["stderr"]
    assert "line 3" in result["stderr"] and "line 4" in result["stderr"]
    assert "return 1 / 0" in result["stderr"]
    assert result["stderr"].endswith("ZeroDivisionError: division by zero\n")
    assert result["error"]["name"] == "ZeroDivisionError"
    assert result["error"]["value"] == "division by zero"
    assert any("ZeroDivisionError" in line for line in result["error"]["traceback"])
    assert "\x1b" not in result["stderr"] + "".join(result["error"]["traceback"])
    assert result["outputs"] == [], "the exception is not repeated among the outputs"
    assert result["timed_out"] is False


def test_a_chained_exception_shows_its_cause(run: Run) -> None:
    """`raise … from …` prints both exceptions and how they belong together."""
    result = run(
        dedent("""
            try:
                {}["absent"]
            except KeyError as missing:
                raise RuntimeError("outer") from missing
        """)
    )
    stderr = result["stderr"]
    cause = "The above exception was the direct cause of the following exception"
    assert stderr.index("KeyError") < stderr.index(cause) < stderr.index("RuntimeError: outer")
    assert (result["exit_code"], result["error"]["name"]) == (1, "RuntimeError")


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        ("print('never')\ndef f(:\n    pass", "SyntaxError", "invalid syntax"),
        ("print('never')\nif True:\nx = 1", "IndentationError", "expected an indented block"),
        ("import json\njson.loads('{')", "JSONDecodeError", "line 1 column 2"),
        ("def f():\n    return f()\nf()", "RecursionError", "maximum recursion depth exceeded"),
        ("import numpy as np\nnp.ones(10**15)", "MemoryError", "Unable to allocate"),
        ("import no_such_module", "ModuleNotFoundError", "no_such_module"),
        ("class Élan(Exception): pass\nraise Élan('🎉 ünï')", "Élan", "🎉 ünï"),
        ("raise KeyboardInterrupt('mine')", "KeyboardInterrupt", "mine"),
    ],
)
def test_every_kind_of_exception_is_named(run: Run, code: str, name: str, message: str) -> None:
    """Syntax errors, errors of libraries and the user's own exceptions are reported by name."""
    result = run(code)
    assert name in result["error"]["name"]
    assert name in result["stderr"] and message in result["stderr"]
    assert result["stdout"] == ""
    # A KeyboardInterrupt of the code's own is 130 in plain Python and 1 in the rule of the table.
    assert result["exit_code"] == 1 or (name, result["exit_code"]) == ("KeyboardInterrupt", 130)
    assert "\x1b" not in result["stderr"]


def test_an_exception_that_cannot_be_printed_is_still_reported(run: Run) -> None:
    """An exception whose `__str__` fails ends the code with 1, not the service with 500."""
    result = run("class Odd(Exception):\n    def __str__(self): raise ValueError('no text')\nraise Odd()")
    assert result["exit_code"] == 1
    assert result["error"]["name"] in ("Odd", "ValueError")  # IPython tells the second failure


def test_an_exception_with_a_huge_message_is_bounded(service: Service) -> None:
    """Five megabytes of message don't make a response of fifteen."""
    response = service.api.execute("raise ValueError('x' * 5_000_000)")
    assert response.status_code == 200
    assert len(response.content) < 5_000_000
    result = response.json()
    assert (result["exit_code"], result["error"]["name"]) == (1, "ValueError")
    assert "stderr" in result["truncated"]


def test_output_before_an_exception_is_kept(run: Run, service: Service) -> None:
    """The response has the text, the displays and the files from before the exception."""
    result = run("print('out')\ndisplay('shown')\nopen('f.txt', 'w').write('data')\n1/0")
    assert result["stdout"] == "out\n"
    assert [output["output_type"] for output in result["outputs"]] == ["display_data"]
    assert service.api.returned(result) == {"f.txt": b"data"}
    assert result["exit_code"] == 1


# Exits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "exit_code"),
    [
        ("sys.exit()", 0),
        ("sys.exit(None)", 0),
        ("sys.exit(3)", 3),
        ("sys.exit(256)", 0),  # as a shell sees it: n & 0xff
        ("sys.exit(-1)", 255),
        ("sys.exit(True)", 1),
        ("exit()", 0),
        ("exit(3)", 3),
        ("quit()", 0),
        ("def leave():\n    raise SystemExit(7)\nleave()", 7),
        ("os._exit(5)", 5),
    ],
)
def test_early_exit_gives_the_exit_code_of_a_shell(run: Run, ending: str, exit_code: int) -> None:
    """Output so far is kept, `stderr` is empty, and no later code runs."""
    result = run(f"import os, sys\nprint('kept', end='')\n{ending}\nprint('never')")
    assert result["exit_code"] == exit_code
    assert (result["stdout"], result["stderr"]) == ("kept", "")
    assert result["timed_out"] is False


def test_exit_with_a_message_prints_it(run: Run) -> None:
    """`sys.exit("text")` writes the text to `stderr` and gives 1, as in Python."""
    result = run("import sys\nsys.exit('no luck')")
    assert (result["stderr"], result["exit_code"]) == ("no luck\n", 1)


@pytest.mark.parametrize(
    ("ending", "exit_code"),
    [
        ("os.kill(os.getpid(), 15)", 143),
        ("os.kill(os.getpid(), 9)", 137),
        ("os.abort()", 134),
        ("import ctypes; ctypes.string_at(0)", 139),
    ],
)
def test_exit_code_after_a_signal_is_128_and_the_signal(
    run: Run, service: Service, ending: str, exit_code: int
) -> None:
    """A crash keeps output and files, and differs from an execution that exceeds the memory limit."""
    code = f"import os\nprint('kept')\nopen('f', 'w').write('data')\n{ending}\nprint('never')"
    result = run(code)
    assert result["exit_code"] == exit_code
    assert result["stdout"] == "kept\n"
    assert result["error"]["name"] == "KernelDied"
    assert service.api.returned(result) == {"f": b"data"}


def test_killed_child_does_not_fail_the_code(run: Run) -> None:
    """The code can read the exit status of the child, and succeeds."""
    result = run("import subprocess\nprint(subprocess.run(['sh', '-c', 'kill -9 $$']).returncode)")
    assert (result["stdout"], result["exit_code"], result["error"]) == ("-9\n", 0, None)


def test_atexit_handlers_run_after_an_exit(run: Run) -> None:
    """The handlers run in order, and their output arrives."""
    result = run(
        "import atexit\natexit.register(print, 'last')\natexit.register(print, 'first')\nprint('body')"
    )
    assert result["stdout"] == "body\nfirst\nlast\n"


# The record --------------------------------------------------------------------------------------


def test_one_shot_result_says_that_the_state_is_discarded(run: Run) -> None:
    """Each execution has a kernel and an id of its own."""
    first, second = run("secret = 1"), run("print('secret' in globals())")
    assert second["stdout"] == "False\n"
    for result in (first, second):
        assert result["state"] == "discarded"
        assert result["state_reason"]
        assert uuid.UUID(result["execution_id"])
    assert first["execution_id"] != second["execution_id"]


def test_duration_covers_only_the_code(run: Run) -> None:
    """`duration_ms` is in milliseconds."""
    began = time.monotonic()
    result = run("import time\ntime.sleep(0.4)")
    assert 350 <= result["duration_ms"] <= (time.monotonic() - began) * 1000
