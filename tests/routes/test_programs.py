"""A program has what a script has: a file, its source, descriptors, and child processes that find it."""

from textwrap import dedent

import pytest

from tests.support.process import Service
from tests.support.session import Session


def check(service: Service, session: Session, code: str, stdout: str, stdin: str | None = None) -> None:
    """Run code without a session and in one, and compare what it prints."""
    for runner in (service.api, session):
        result = runner.run(dedent(code), stdin=stdin, timeout_ms=25_000)
        assert (result["stdout"], result["exit_code"]) == (stdout, 0), result["stderr"]
    assert session.printed("print('next')") == "next"


DESCRIPTORS = [
    ("print(open(0).read())", "text\n"),
    ("print(open(0, 'rb').read())", "b'text'\n"),
    ("with open(0) as file: print(file.readline())", "text\n"),
    ("import sys; sys.stdin = open(0); print(sys.stdin.read())", "text\n"),
    ("import sys; sys.stdin = open(0); print(input())", "text\n"),
    ("import io; print(io.open(0).read())", "text\n"),
    ("import os; print(os.fdopen(0).read())", "text\n"),
    ("with open(1, 'w', closefd=False) as file: file.write('x\\n')\nprint('y')", "x\ny\n"),
    ("file = open(1, 'w')\nfile.write('x\\n')\nfile.close()\nprint('y')", "x\ny\n"),
    ("print('z', file=open(1, 'w'))\nprint('y')", "z\ny\n"),
    ("import sys; print([line for line in open('/dev/stdin')])", "['text']\n"),
]


@pytest.mark.parametrize(("code", "stdout"), DESCRIPTORS)
def test_standard_descriptors_can_be_opened(
    service: Service, session: Session, code: str, stdout: str
) -> None:
    """`open(0)`, `open(1, "w")` and their like work as in a script."""
    check(service, session, code, stdout, stdin="text")


SOURCES = {
    "a function": "import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f), end='')",
    "a class": "import inspect\nclass A:\n    x = 1\nprint(inspect.getsource(A), end='')",
    "a method": "import inspect\nclass A:\n    def f(self): return 1\nprint(inspect.getsource(A.f), end='')",
    "a dataclass": (
        "import inspect, dataclasses\n@dataclasses.dataclass\nclass A:\n    x: "
        "int = 1\nprint(inspect.getsource(A), end='')"
    ),
    "an enum": "import enum, inspect\nclass A(enum.Enum):\n    X = 1\nprint(inspect.getsource(A), end='')",
    "a named tuple": (
        "import inspect, typing\nclass A(typing.NamedTuple):\n    x: int\nprint(inspect.getsource(A), end='')"
    ),
    "a nested class": (
        "import inspect\nclass A:\n    class B:\n        y = 2\nprint(inspect.getsource(A.B), end='')"
    ),
}


@pytest.mark.parametrize("code", SOURCES.values(), ids=SOURCES.keys())
def test_source_of_what_a_program_defines_is_there(service: Service, session: Session, code: str) -> None:
    """`inspect.getsource` returns the text of functions and classes."""
    for runner in (service.api, session):
        result = runner.run(code)
        assert result["exit_code"] == 0, result["stderr"]
        assert result["stdout"].strip() and result["stdout"] in code


def test_class_of_an_earlier_cell_has_its_source(session: Session) -> None:
    """A class that is defined again has the source of its last definition."""
    session.run("class First:\n    a = 1")
    session.run("class Second:\n    b = 1")
    code = "import inspect\nprint(inspect.getsource(First), end='')"
    assert session.printed(code) == "class First:\n    a = 1"
    session.run("class First:\n    a = 2")
    assert session.printed(code) == "class First:\n    a = 2"


FILES = {
    "__file__ has the code": ("print(open(__file__).read().count('this text'))", "1\n"),
    "__file__ is absolute": (
        "import os; print(os.path.isabs(__file__), os.path.isfile(__file__))",
        "True True\n",
    ),
    "__main__ has the file": ("import __main__; print(__main__.__file__ == __file__)", "True\n"),
    "it is no file of the workspace": ("import os; print(os.listdir('.'))", "[]\n"),
    "doctest": (
        (
            "def f():\n    '''\n    >>> f()\n    1\n    '''\n    return 1\nimport "
            "doctest; print(doctest.testmod())"
        ),
        "TestResults(failed=0, attempted=1)\n",
    ),
    "pickle": ("import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)", "True\n"),
    "pathlib": ("from pathlib import Path; print(Path(__file__).resolve().suffix)", ".py\n"),
    "warnings": (
        "import warnings, sys\nwarnings.warn('x')\nprint(sys._getframe().f_code.co_filename == __file__)",
        "True\n",
    ),
    "a traceback": (
        (
            "import traceback\ntry: 1 / 0\nexcept ZeroDivisionError: print(f'line "
            "2, in' in traceback.format_exc() and '1 / 0' in traceback.format_exc())"
        ),
        "True\n",
    ),
}


@pytest.mark.parametrize(("code", "stdout"), FILES.values(), ids=FILES.keys())
def test_program_has_a_file(service: Service, session: Session, code: str, stdout: str) -> None:
    """`__file__`, `__main__` and what depends on them work as in a script. The file is not returned."""
    result = service.api.run(code)
    assert (result["stdout"], result["exit_code"], result["files"]) == (stdout, 0, []), result["stderr"]
    check(service, session, code, stdout)


def test_program_runs_when_its_file_cannot_be_written(session: Session) -> None:
    """The disk of the file is full, or its folder is not a folder."""
    session.run(
        "import os, shutil; folder = os.path.dirname(__file__); "
        "shutil.rmtree(folder); open(folder, 'w').close()"
    )
    assert session.printed(
        "def f(): return 1\nimport inspect; print(inspect.getsource(f), end='')"
    ).startswith("def f()")
    session.run("os.unlink(folder)")


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize(
    "use",
    [
        "with context.Pool(2) as pool: print(pool.map(square, [1, 2, 3]))",
        "p = context.Process(target=show, args=([1, 4, 9],)); p.start(); p.join(); assert p.exitcode == 0",
        "with ProcessPoolExecutor(2, mp_context=context) as pool: print(list(pool.map(square, [1, 2, 3])))",
    ],
    ids=["Pool", "Process", "ProcessPoolExecutor"],
)
def test_child_processes_find_the_program(service: Service, session: Session, method: str, use: str) -> None:
    """Each way to start a process calls a function of the code under the main guard."""
    code = f"""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        def square(number):
            return number * number

        def show(value):
            print(value, flush=True)

        if __name__ == "__main__":
            context = multiprocessing.get_context("{method}")
            {use}
    """
    check(service, session, code, "[1, 4, 9]\n")


DEBUGGERS = {
    "breakpoint": "breakpoint()",
    "set_trace": "import pdb\npdb.set_trace()",
    "a debugger in a function": "def f():\n    x = 1\n    breakpoint()\n    return x\nf()",
    "IPython's": "from IPython.core.debugger import set_trace\nset_trace()",
    "the one of IPython's terminal": "from IPython.terminal.debugger import set_trace\nset_trace()",
    "a debugger of a class": "import pdb\npdb.Pdb().set_trace()",
    "a debugger in a coroutine": (
        "import asyncio\nasync def f():\n    breakpoint()\n    x = 1\n    x = 2\nasyncio.run(f())"
    ),
    "a debugger before an await": (
        "import asyncio\nasync def f():\n    breakpoint()\n    x = 1\n    x = 2\nawait f()"
    ),
    "a debugger in executed text": "exec('x = 1\\nbreakpoint()\\nx = 2')",
    "a debugger in a magic": "%time breakpoint()",
}


@pytest.mark.parametrize("stdin", [None, "q\n", "n\nq\n"], ids=["no input", "quit", "next and quit"])
@pytest.mark.parametrize("code", DEBUGGERS.values(), ids=DEBUGGERS.keys())
def test_program_that_a_debugger_ends_has_failed(
    service: Service, session: Session, code: str, stdin: str | None
) -> None:
    """The rest does not run, and the error is that of plain Python."""
    for runner in (service.api, session):
        result = runner.run(f"{code}\nz = 1\nz = 2\nprint('after')", stdin=stdin, timeout_ms=20_000)
        assert (result["exit_code"], result["error"]["name"]) == (1, "BdbQuit"), result
        assert not result["stdout"].endswith("after\n") and "BdbQuit" in result["stderr"]
    assert session.printed("print('next')") == "next"


POST_MORTEM = {
    "post_mortem": "import pdb\ntry: 1 / 0\nexcept ZeroDivisionError: pdb.post_mortem()",
    "pm": (
        "import pdb, sys\ntry: 1 / 0\n"
        "except ZeroDivisionError: sys.last_traceback = sys.exc_info()[2]\npdb.pm()"
    ),
    "a statement": "import pdb\npdb.run('x = 1')",
    "%debug": "%debug x = 1",
}


@pytest.mark.parametrize("stdin", [None, "q\n"], ids=["no input", "quit"])
@pytest.mark.parametrize("code", POST_MORTEM.values(), ids=POST_MORTEM.keys())
def test_program_goes_on_after_a_debugger_that_only_looks(
    service: Service, session: Session, code: str, stdin: str | None
) -> None:
    """As in plain Python, the program goes on after a debugger that looks at a past error or a statement."""
    for runner in (service.api, session):
        result = runner.run(f"{code}\nprint('after')", stdin=stdin, timeout_ms=20_000)
        assert (result["exit_code"], result["error"]) == (0, None), result
        assert result["stdout"].endswith("after\n")


@pytest.mark.parametrize("call", ["pdb.pm()", "pdb.post_mortem()"])
def test_debugger_without_an_error_to_look_at_fails(service: Service, call: str) -> None:
    """The error is that of plain Python, and the rest does not run."""
    result = service.api.run(f"import pdb\n{call}\nprint('after')")
    assert result["exit_code"] == 1 and result["stdout"] == "", result


@pytest.mark.parametrize("stdin", ["c\n", "p 6 * 7\nc\n", "n\nc\n"])
def test_program_that_a_debugger_continues_goes_on(service: Service, session: Session, stdin: str) -> None:
    """Commands come from the given input."""
    for runner in (service.api, session):
        result = runner.run("breakpoint()\nprint('after')", stdin=stdin, timeout_ms=20_000)
        assert result["exit_code"] == 0 and "after\n" in result["stdout"], result


def test_debugger_steps_from_line_to_line(service: Service, session: Session) -> None:
    """The next line is the program's, not one of the kernel."""
    for runner in (service.api, session):
        result = runner.run("breakpoint()\nx = 1\ny = 2\ny", stdin="n\np x\nn\nn\nn\n", timeout_ms=20_000)
        assert (result["exit_code"], result["error"]) == (0, None), result
        lines = result["stdout"].splitlines()
        assert [line for line in lines if line.startswith("-> ")] == ["-> x = 1", "-> y = 2", "-> y", "-> y"]
        assert "(Pdb) 1" in lines and "IPython" not in result["stdout"]


ENDS = {
    "exit": ("def end(): exit(3)", 3),
    "quit": ("def end(): quit()", 0),
    "exit with a text": ("def end(): exit('no data')", 1),
}


@pytest.mark.parametrize(("module", "exit_code"), ENDS.values(), ids=ENDS.keys())
def test_module_of_the_program_can_exit(
    service: Service, session: Session, module: str, exit_code: int
) -> None:
    """`exit` is a built-in function for imported modules, too."""
    code = f"open('helper.py', 'w').write({module!r})\nimport sys; sys.modules.pop('helper', None)\n"
    for runner in (service.api, session):
        result = runner.run(code + "import helper\nhelper.end()\nprint('after')")
        assert (result["exit_code"], result["stdout"]) == (exit_code, ""), result


def test_program_that_prints_an_error_itself_goes_on(service: Service, session: Session) -> None:
    """A call of `sys.excepthook` prints the traceback, and is no failure."""
    code = "import sys\ntry: 1 / 0\nexcept ZeroDivisionError: sys.excepthook(*sys.exc_info())\nprint('after')"
    for runner in (service.api, session):
        result = runner.run(code)
        assert (result["exit_code"], result["error"], result["stdout"]) == (0, None, "after\n"), result
        assert result["stderr"].endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("last", ["return 1", "nonlocal x", "await = 1", "yield 1", "break"])
def test_nothing_runs_of_a_program_with_a_syntax_error(service: Service, session: Session, last: str) -> None:
    """This holds for errors that only the compiler finds, too."""
    for runner in (service.api, session):
        result = runner.run(f"print('before')\n{last}")
        assert (result["exit_code"], result["error"]["name"], result["stdout"]) == (1, "SyntaxError", "")


SHOWN = {
    "a value": ("1\n2", "2\n"),
    "no value": ("x = 1\nx;", ""),
    "a loop": ("for i in range(2): i", ""),
    "text first": ("'text'\nprint(__doc__)", "text\n"),
    "a comment": ("# nothing", ""),
    "an import from the future after a magic": (
        "%precision\nfrom __future__ import annotations\ndef f(a: b): pass\nf.__annotations__",
        "{'a': 'b'}\n",
    ),
    "an await": ("import asyncio\nx = 1\nawait asyncio.sleep(0, x)", "1\n"),
    "another display hook": (
        "import sys\nsys.displayhook = lambda value: print('mine', value)\n7",
        "mine 7\n",
    ),
}


@pytest.mark.parametrize(("code", "stdout"), SHOWN.values(), ids=SHOWN.keys())
def test_value_of_the_last_expression_is_shown(
    service: Service, session: Session, code: str, stdout: str
) -> None:
    """Other expressions are not shown."""
    check(service, session, code, stdout)


@pytest.mark.parametrize(
    "command", ["!pip install left-pad", "%pip install left-pad", "!python -m pip download left-pad"]
)
def test_installing_without_a_network_fails_at_once_with_the_reason(session: Session, command: str) -> None:
    """The text says that there is no network, and what the operator can do."""
    result = session.run(command, timeout_ms=20_000)
    shown = result["stdout"] + result["stderr"]
    assert "This sandbox has no network" in shown and "operator" in shown
    assert "Retrying" not in shown and not result["timed_out"]
    assert "pip" in session.printed("!pip list")
