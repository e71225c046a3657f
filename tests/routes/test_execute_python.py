"""Code as people write it: input, coroutines, threads, processes, magics, and odd source text."""

from textwrap import dedent

import pytest

from tests.conftest import Run
from tests.support.process import Service

# Standard input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "stdin", "stdout"),
    [
        ("import sys\nprint(repr(sys.stdin.read()))", "a\nb", "'a\\nb'\n"),
        ("import sys\nfor line in sys.stdin: print(repr(line))", "a\nb\n", "'a\\n'\n'b\\n'\n"),
        ("import sys\nprint(input(), sys.stdin.readline(), end='')", "a\nb\n", "a b\n"),
        ("import subprocess\nsubprocess.run('cat')\nNone", "for the child", "for the child"),
        ("import os\nprint(os.read(0, 100))", "raw", "b'raw'\n"),
        ("import sys\nprint(sys.stdin.buffer.read())", "é\x00", "b'\\xc3\\xa9\\x00'\n"),
        ("print(input())", "你好 🎉 a\u2028b\n", "你好 🎉 a\u2028b\n"),
        ("import sys\nprint(len(sys.stdin.read()))", "x" * 1_000_000, "1000000\n"),
        ("print('not read')", "x" * 1_000_000, "not read\n"),
        ("import sys\nprint(sys.stdin.isatty(), sys.stdin.fileno())", "", "False 0\n"),
        # Plain Python with a pipe also prints the prompt and does not echo the input.
        ("name = input('name? ')\nprint('hello', name)", "Ada\n", "name? hello Ada\n"),
    ],
)
def test_stdin_reaches_every_reader(run: Run, code: str, stdin: str, stdout: str) -> None:
    """`input()`, `sys.stdin`, the file descriptor and child processes all read the given text."""
    result = run(code, stdin=stdin)
    assert (result["stdout"], result["stderr"]) == (stdout, "")
    assert result["exit_code"] == 0


def test_input_after_the_last_line_raises_eof(run: Run) -> None:
    """Two lines answer two `input()` calls; the third call raises EOFError."""
    result = run("print(input())\nprint(input())\nprint(input())", stdin="a\nb\n")
    assert result["stdout"] == "a\nb\n"
    assert (result["exit_code"], result["error"]["name"]) == (1, "EOFError")


@pytest.mark.parametrize("stdin", [None, ""])
def test_input_without_stdin_raises_at_once(run: Run, stdin: str | None) -> None:
    """A child process that reads its input ends at once, too."""
    result = run("import subprocess\nsubprocess.run('cat')\ninput()", stdin=stdin)
    assert result["error"]["name"] == "EOFError"
    assert result["timed_out"] is False


# Coroutines and threads --------------------------------------------------------------------------

ASYNC = "import asyncio\nasync def later(x):\n    await asyncio.sleep(0.01)\n    return x\n"


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        ("print(await later(1))", "1\n"),
        ("await later(2)", "2\n"),
        ("print(asyncio.run(later(3)))", "3\n"),
        ("print(asyncio.get_event_loop().run_until_complete(later(4)))", "4\n"),
        ("print(await later(5))\nprint(asyncio.run(later(6)))", "5\n6\n"),
        ("print(await asyncio.gather(later(7), later(8)))", "[7, 8]\n"),
        ("asyncio.run(later(1))\nasyncio.run(later(9))", "9\n"),
    ],
)
def test_coroutines_run_at_the_top_and_by_a_loop(run: Run, code: str, stdout: str) -> None:
    """`await` works at top level, and so do `asyncio.run` and an event loop of the code's own."""
    result = run(ASYNC + code)
    assert result["stdout"] == stdout
    assert (result["exit_code"], result["error"]) == (0, None)


def test_threads_print_whether_joined_or_not(run: Run) -> None:
    """The execution waits for threads that are not daemons, as a script does at its end."""
    result = run(
        dedent("""
            import threading, time
            def say(text, after):
                time.sleep(after)
                print(text)
            joined = threading.Thread(target=say, args=("joined", 0.05))
            joined.start(); joined.join()
            threading.Thread(target=say, args=("not joined", 1)).start()
            threading.Thread(target=say, args=("daemon", 600), daemon=True).start()
            print("end of the code")
        """)
    )
    assert result["stdout"] == "joined\nend of the code\nnot joined\n"
    assert (result["exit_code"], result["timed_out"]) == (0, False)


def test_exception_in_a_thread_is_printed(run: Run) -> None:
    """The traceback of the thread is in `stderr`; the code itself succeeds."""
    result = run("import threading\nt = threading.Thread(target=lambda: 1/0)\nt.start(); t.join()")
    assert "ZeroDivisionError" in result["stderr"]
    assert (result["exit_code"], result["error"]) == (0, None)


# Processes ---------------------------------------------------------------------------------------


def test_multiprocessing_works_with_functions_of_the_code(run: Run) -> None:
    """Pool, Process with a queue, and ProcessPoolExecutor run functions the code defines."""
    result = run(
        dedent("""
            import multiprocessing, os
            from concurrent.futures import ProcessPoolExecutor

            def square(x):
                return x * x

            def put(queue):
                print("in the child")
                queue.put(os.getpid() != parent)

            parent = os.getpid()
            with multiprocessing.Pool(2) as pool:
                print(pool.map(square, range(5)))
            queue = multiprocessing.Queue()
            child = multiprocessing.Process(target=put, args=(queue,))
            child.start(); child.join()
            print(queue.get(), child.exitcode)
            with ProcessPoolExecutor(2) as executor:
                print(list(executor.map(square, [3, 4])))
        """)
    )
    assert result["stdout"] == "[0, 1, 4, 9, 16]\nin the child\nTrue 0\n[9, 16]\n"
    assert (result["exit_code"], result["stderr"]) == (0, "")


@pytest.mark.timeout(120)
def test_joblib_and_scikit_learn_use_two_processes(run: Run) -> None:
    """`n_jobs=2` works, with the workers joblib starts by itself."""
    result = run(
        dedent("""
            from joblib import Parallel, delayed
            from sklearn.datasets import load_iris
            from sklearn.linear_model import LogisticRegression
            from sklearn.model_selection import cross_val_score

            def square(x):
                return x * x

            print(Parallel(n_jobs=2)(delayed(square)(i) for i in range(4)))
            X, y = load_iris(return_X_y=True)
            scores = cross_val_score(LogisticRegression(max_iter=500), X, y, cv=3, n_jobs=2)
            print(scores.mean() > 0.9)
        """),
        timeout_ms=30_000,
    )
    assert result["stdout"] == "[0, 1, 4, 9]\nTrue\n", result["stderr"]
    assert result["exit_code"] == 0


def test_forked_child_does_not_answer_a_second_time(run: Run) -> None:
    """A child made by `os.fork` that reaches the end of the code does not change the result."""
    result = run(
        dedent("""
            import os, sys
            pid = os.fork()
            if pid == 0:
                print("child", flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
            print("parent")
        """)
    )
    assert result["stdout"] == "child\nparent\n"
    assert result["exit_code"] == 0


# IPython's additions -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        ("%pwd", "'/workspace'\n"),
        ("!echo a; echo b", "a\nb\n"),
        ("names = !printf 'x\\ny\\n'\nprint(list(names))", "['x', 'y']\n"),
        ("%%bash\necho $((40 + 2))\necho second", "42\nsecond\n"),
        ("%matplotlib inline\nprint('fine')", "fine\n"),
        ("%%writefile note.txt\nhello", "Writing note.txt\n"),
        ("print(get_ipython().__class__.__name__ != '')", "True\n"),
    ],
)
def test_magics_and_shell_lines_work(run: Run, code: str, stdout: str) -> None:
    """Magics and shell commands run as in a notebook."""
    result = run(code)
    assert (result["stdout"], result["stderr"]) == (stdout, "")
    assert result["exit_code"] == 0


def test_timing_a_cell_prints_its_time(run: Run) -> None:
    """`%%time` runs the cell and reports on it."""
    result = run("%%time\nprint('body')")
    assert result["stdout"].startswith("body\n")
    assert "Wall time" in result["stdout"]


def test_a_failing_shell_line_does_not_fail_the_code(run: Run) -> None:
    """A failed `!cmd` prints its error, and the code goes on, as in a notebook."""
    result = run("!echo bad >&2; exit 3\nprint('next')")
    # A notebook shows a shell line's standard error among its output; a terminal beside it.
    assert "bad" in result["stdout"] + result["stderr"]
    assert result["stdout"].endswith("next\n")
    assert result["exit_code"] == 0


# The source --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        pytest.param("x = 1\r\nif x:\r\n    print(x)\r\n", "1\n", id="Windows line ends"),
        pytest.param("\ufeffprint(2)", "2\n", id="byte order mark"),
        pytest.param("if True:\n\tprint(3)", "3\n", id="tabs"),
        pytest.param("if __name__ == '__main__':\n    print(4)", "4\n", id="main guard"),
        pytest.param("from __future__ import annotations\nprint(5)", "5\n", id="future"),
        pytest.param("#!/usr/bin/env python\n# -*- coding: utf-8 -*-\nprint(6)", "6\n", id="head"),
        pytest.param("变量 = 7\nprint(变量)", "7\n", id="unicode names"),
        pytest.param('print("""a\r\nb""")', "a\nb\n", id="Windows line end in a string"),
        pytest.param("def f():\n    x = 8\n\n    return x\n\nf()", "8\n", id="blank lines"),
        pytest.param("x = '" + "y" * 1_000_000 + "'\nlen(x)", "1000000\n", id="1 MB of code"),
    ],
)
def test_source_text_of_every_form_runs(run: Run, code: str, stdout: str) -> None:
    """Line ends, byte order marks, main guards and sizes of all kinds are accepted."""
    result = run(code)
    assert (result["stdout"], result["stderr"], result["exit_code"]) == (stdout, "", 0)


def test_the_code_is_the_main_module(run: Run) -> None:
    """Its classes pickle, its command line is empty, and `__file__` is a file with the code."""
    result = run(
        dedent("""
            import argparse, os, pickle, sys
            class Point:
                x = 1
            print(pickle.loads(pickle.dumps(Point())).x, Point.__module__)
            print(argparse.ArgumentParser().parse_args())
            print("argparse" in open(__file__).read(), os.getcwd())
        """)
    )
    assert result["stdout"] == "1 __main__\nNamespace()\nTrue /workspace\n"


def test_code_has_the_environment_of_a_user(run: Run, service: Service) -> None:
    """The folder is /workspace, home and /tmp are writable, and only the folder's files are returned."""
    result = run(
        dedent("""
            import os, pathlib, tempfile
            print(os.getcwd())
            (pathlib.Path.home() / "note").write_text("home")
            print(os.environ["HOME"] == str(pathlib.Path.home()))
            tempfile.NamedTemporaryFile("w", delete=False).write("temporary")
            os.chdir("/tmp")
            pathlib.Path("elsewhere").write_text("not collected")
            pathlib.Path("/workspace/here").write_text("collected")
            None
        """)
    )
    assert result["stdout"] == "/workspace\nTrue\n"
    assert service.api.returned(result) == {"here": b"collected"}


def test_staged_modules_and_data_are_used_by_their_names(run: Run, service: Service) -> None:
    """A staged `helper.py`, a package and a data file are found in the workspace."""
    files = service.api.stage_at(
        {
            "helper.py": b"def greet(): return 'from helper'\n",
            "package/__init__.py": b"",
            "package/part.py": b"NAME = 'from package'\n",
            "data/numbers.csv": b"a,b\n1,2\n",
        }
    )
    result = run(
        dedent("""
            import helper, pandas as pd
            from package.part import NAME
            print(helper.greet(), NAME)
            print(pd.read_csv("data/numbers.csv")["b"].sum())
        """),
        files=files,
    )
    assert result["stdout"] == "from helper from package\n2\n"
    assert result["files"] == [], "byte code that importing writes is nothing the user made"
