"""A caller who answers input uses a debugger: steps, looks at variables, continues, quits."""

import pytest

from tests.support.api import Body
from tests.support.session import Session
from tests.support.sse import text_of


def dialog(session: Session, code: str, *commands: str) -> tuple[str, Body]:
    """Run code and answer each request for input with the next command; return stdout and the result."""
    answers = list(commands)
    received = []
    with session.open_stream(code, allow_stdin=True, timeout_ms=25_000) as events:
        for event in events:
            received.append(event)
            if event.type == "input_request":
                assert event.data["prompt"].strip() in ("(Pdb)", "ipdb>"), event
                answered = session.call("POST", "/input", json={"value": answers.pop(0)})
                assert answered.status_code == 204, answered.text
    assert answers == [], "the debugger ended early"
    return text_of(received, "stdout"), received[-1].data


CODE = """
def double(a):
    b = a + a
    return b
x = 20
{start}
y = x + 1
z = double(y)
print("z is", z)
"""
STARTS = {
    "breakpoint": "breakpoint()",
    "set_trace": "import pdb; pdb.set_trace()",
    "IPython's": "from IPython.core.debugger import set_trace; set_trace()",
    "the one of IPython's terminal": "from IPython.terminal.debugger import set_trace; set_trace()",
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
def test_debugger_steps_prints_and_continues(session: Session, start: str) -> None:
    """A step leads to the program's next line, or into its function, and never into the kernel."""
    commands = ["p x", "n", "p y", "s", "n", "p a", "r", "n", "c"]
    text, result = dialog(session, CODE.format(start=start), *commands)
    assert (result["exit_code"], result["error"], result["state"]) == (0, None, "kept"), text
    lines = text.splitlines()
    assert [line for line in lines if line in ("20", "21")] == ["20", "21", "21"]
    assert "double(" in text and "z is 42" in lines and "run_code" not in text
    assert session.printed("y, z") == "(21, 42)"


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
def test_program_that_the_caller_quits_has_failed(session: Session, start: str) -> None:
    """The variables are kept, and the next call works."""
    session.run("z = 0")
    text, result = dialog(session, CODE.format(start=start), "n", "q")
    assert (result["exit_code"], result["error"]["name"]) == (1, "BdbQuit") and "z is 42" not in text
    assert session.printed("y, z") == "(21, 0)"


def test_steps_after_the_last_line_end_the_program(session: Session) -> None:
    """The value of the last expression is shown, and the debugger does not stop in the kernel."""
    text, result = dialog(session, "breakpoint()\nx = 5\nx", "n", "n", "n")
    assert (result["exit_code"], result["error"]) == (0, None)
    assert "5" in text.splitlines() and "run_code" not in text


def test_breakpoints_stop_in_later_calls(session: Session) -> None:
    """A breakpoint in a function is kept until the caller clears it."""
    code = "def f(a):\n    b = a\n    return b\nbreakpoint()\nf(1)"
    text, result = dialog(session, code, "b f", "c", "p a", "c")
    assert result["exit_code"] == 0 and "\n1\n" in text
    text, result = dialog(session, "f(2)", "p a", "cl 1", "c")
    assert result["exit_code"] == 0 and text.splitlines()[-1] == "2"
    assert dialog(session, "f(3)")[0] == "3\n"


@pytest.mark.parametrize("call", ["await f()", "asyncio.run(f())", "await asyncio.gather(f(), f())"])
def test_debugger_steps_over_an_await(session: Session, call: str) -> None:
    """The coroutine stops again on the line after the await."""
    code = "import asyncio\nstops = iter([1])\nasync def f():\n    if next(stops, 0): breakpoint()\n"
    code += "    await asyncio.sleep(0.01)\n    return 1\n"
    text, result = dialog(session, f"{code}{call}\nprint('end')", "n", "c")
    assert result["exit_code"] == 0 and "-> return 1" in text and text.endswith("end\n")


def test_debugger_of_a_thread_answers(session: Session) -> None:
    """The thread stops, and goes on."""
    code = "import threading\ndef f():\n    x = 3\n    breakpoint()\n    y = 4\n    print(x + y)\n"
    code += "thread = threading.Thread(target=f)\nthread.start()\nthread.join()"
    text, result = dialog(session, code, "p x", "n", "c")
    assert result["exit_code"] == 0 and "\n3\n" in text and text.endswith("7\n")


def test_past_error_can_be_looked_at(session: Session) -> None:
    """The variables of the function that failed are there, and the program goes on."""
    code = "import pdb\ndef f():\n    v = 7\n    1 / 0\n"
    code += "try: f()\nexcept Exception: pdb.post_mortem()\nprint('after')"
    text, result = dialog(session, code, "p v + 1", "u", "q")
    assert result["exit_code"] == 0 and "8" in text.splitlines() and text.endswith("after\n")


@pytest.mark.parametrize("call", ["import pdb; pdb.pm()", "%debug"])
def test_error_of_the_call_before_can_be_looked_at(session: Session, call: str) -> None:
    """`pm` and `%debug` find the last error of the session."""
    assert session.run("def f():\n    v = 7\n    1 / 0\nf()")["exit_code"] == 1
    text, result = dialog(session, call, "p v + 1", "q")
    assert result["exit_code"] == 0 and "8" in text.splitlines()


@pytest.mark.parametrize("commands", [[], ["n"], ["c"]], ids=["at once", "after a step", "while it runs"])
def test_interrupt_ends_a_debugger(session: Session, commands: list[str]) -> None:
    """The debugger asks no second time; the variables are kept."""
    session.run("kept = 5")
    answers = list(commands)
    code = "import time\nbreakpoint()\nx = 1\nprint('loops')\nwhile True: time.sleep(0.01)"
    with session.open_stream(code, allow_stdin=True, timeout_ms=25_000) as events:
        for event in events:
            if event.type == "input_request" and answers:
                session.call("POST", "/input", json={"value": answers.pop(0)})
            elif event.type == "input_request" or "loops\n" in event.data.get("data", ""):
                session.interrupt()
    assert (event.data["error"]["name"], event.data["state"]) == ("KeyboardInterrupt", "kept")
    assert session.printed("kept") == "5"


def test_time_limit_ends_a_debugger_and_keeps_the_variables(session: Session) -> None:
    """The kernel need not be killed."""
    session.run("kept = 6")
    events = session.stream("breakpoint()\nx = 1", allow_stdin=True, timeout_ms=1500)
    assert (events[-1].data["timed_out"], events[-1].data["state"]) == (True, "kept")
    assert session.printed("kept") == "6"
