"""The kernel of a session: timeouts, memory, death, interrupt, restart, input, progress."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import pytest

from tests.support.process import Service
from tests.support.session import Session, new_session
from tests.support.waiting import soon

GROW = "hoard = []\nwhile True:\n    hoard.append(bytearray(b'x') * 10_000_000)"


@pytest.fixture(scope="module")
def tight_session(tight_service: Service) -> Iterator[Session]:
    """One session of the service with a second of CPU time and 128 MiB."""
    with new_session(tight_service) as opened:
        yield opened


# Time, memory and death --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stuck",
    [
        pytest.param("time.sleep(60)", id="sleep"),
        pytest.param("while True: pass", id="busy loop"),
        pytest.param("import subprocess; subprocess.run(['sleep', '60'])", id="child"),
        pytest.param("import asyncio\nawait asyncio.sleep(60)", id="await"),
        pytest.param("import threading; threading.Event().wait()", id="lock"),
    ],
)
def test_session_keeps_variables_after_timeout(session: Session, stuck: str) -> None:
    """Code that reacts to an interrupt is interrupted, and the next call works at once."""
    session.run("import time\nmarker = 'here'")
    result = session.run(f"print('kept')\n{stuck}", timeout_ms=2000)
    assert (result["timed_out"], result["exit_code"]) == (True, None)
    assert result["error"]["name"] == "TimeoutExceeded"
    assert (result["state"], result["stdout"]) == ("kept", "kept\n")
    assert session.printed("marker") == "'here'"


@pytest.mark.parametrize(
    ("stuck", "may_heed"),
    [
        pytest.param("sum(range(10**12))", False, id="C loop"),
        pytest.param("signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)", False, id="ignored"),
        pytest.param(
            "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); sum(range(10**12))", False, id="blocked"
        ),
        pytest.param(
            "while True:\n    try: time.sleep(60)\n    except BaseException: pass", False, id="stubborn"
        ),
        pytest.param("import re; re.match(r'(a+)+$', 'a' * 50 + 'b')", True, id="regex"),
        pytest.param("os.kill(os.getpid(), signal.SIGSTOP)", True, id="stopped"),
    ],
)
def test_code_that_ignores_the_timeout_is_killed(session: Session, stuck: str, may_heed: bool) -> None:
    """A new kernel is ready, files are kept, and the answer has the state `restarted`."""
    session.run("import os, signal, time\nmarker = 'here'\nwith open('kept.txt', 'w') as f: _ = f.write('x')")
    result = session.run(f"print('kept')\n{stuck}", timeout_ms=2000)
    assert (result["timed_out"], result["exit_code"]) == (True, None)
    assert result["error"]["name"] == "TimeoutExceeded"
    assert result["stdout"] == "kept\n"
    assert result["state"] == "restarted" or (may_heed and result["state"] == "kept")
    after = session.run("print('marker' in globals(), open('kept.txt').read())")
    assert after["stdout"] == f"{result['state'] == 'kept'} x\n"
    if result["state"] == "restarted":
        assert after["execution_count"] == 1


@pytest.mark.parametrize(
    ("ending", "exit_code"),
    [
        pytest.param("os._exit(3)", 3, id="os._exit"),
        pytest.param("os._exit(0)", 0, id="os._exit of 0"),
        pytest.param("os.kill(os.getpid(), 9)", 137, id="killed"),
        pytest.param("import ctypes; ctypes.string_at(0)", 139, id="segfault"),
        pytest.param("os.abort()", 134, id="abort"),
    ],
)
def test_kernel_that_dies_is_replaced(session: Session, ending: str, exit_code: int) -> None:
    """The answer has the exit code and the output so far. The next call runs in a new kernel at once."""
    code = "import os\nmarker = 1\nwith open('kept.txt', 'w') as f: _ = f.write('x')\nprint('said')\n"
    result = session.run(code + ending)
    assert (result["exit_code"], result["timed_out"]) == (exit_code, False)
    assert (result["state"], result["stdout"]) == ("restarted", "said\n")
    after = session.run("print('marker' in globals(), open('kept.txt').read())")
    assert after["stdout"] == "False x\n"
    assert (after["execution_count"], after["state"]) == (1, "kept")


def test_kernel_that_died_between_calls_is_replaced(session: Session) -> None:
    """The next call runs in a new kernel at once, with the state `restarted`. Files are kept."""
    session.run(
        "import os, threading\nwith open('kept.txt', 'w') as file: _ = file.write('kept')\n"
        "threading.Timer(0.2, os._exit, (0,)).start()"
    )
    time.sleep(2)
    result = session.run("print('threading' in globals(), open('kept.txt').read())")
    assert (result["stdout"], result["exit_code"], result["execution_count"]) == ("False kept\n", 0, 1)
    assert result["state"] == "restarted"
    assert "ended since the last call" in result["state_reason"]
    assert session.run("1")["state"] == "kept"


def test_code_over_the_memory_limit_restarts_the_kernel(tight_session: Session) -> None:
    """The exit code is 137 and the error names the memory. Files are kept and the next call works."""
    tight_session.run("marker = 1\nwith open('kept.txt', 'w') as f: _ = f.write('x')")
    result = tight_session.run(f"print('said')\n{GROW}")
    assert (result["exit_code"], result["timed_out"]) == (137, False)
    assert result["error"]["name"] == "MemoryLimitExceeded"
    assert (result["state"], result["stdout"]) == ("restarted", "said\n")
    after = tight_session.run("print('marker' in globals(), open('kept.txt').read())")
    assert after["stdout"] == "False x\n"


def test_memory_kept_between_calls_counts(tight_session: Session) -> None:
    """Three calls that keep 60 MiB each exceed 128 MiB, and the third gets the error."""
    code = "held = [*globals().get('held', []), bytearray(b'x') * (60 * 1024 * 1024)]"
    results = [tight_session.run(code) for _ in range(3)]
    assert [result["exit_code"] for result in results[:2]] == [0, 0]
    assert results[2]["exit_code"] == 137 or results[2]["error"]["name"] == "MemoryError"
    tight_session.restart()
    assert tight_session.printed("'held' in globals()") == "False"


@pytest.mark.parametrize(
    "burn",
    [
        pytest.param("while True: pass", id="itself"),
        pytest.param(
            "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])", id="a child"
        ),
    ],
)
def test_cpu_time_is_limited_per_call(tight_session: Session, burn: str) -> None:
    """A call over `CPU_TIME_LIMIT_SEC`, children included, gives 152. The next call starts from 0."""
    tight_session.run("import time")
    result = tight_session.run(f"print('said')\n{burn}")
    assert (result["exit_code"], result["timed_out"]) == (152, False)
    assert result["error"]["name"] == "CpuTimeLimitExceeded"
    assert result["stdout"] == "said\n"
    assert result["state"] in ("kept", "restarted")
    assert tight_session.printed("'next'") == "'next'"


def test_cpu_time_is_not_added_up_over_calls(tight_session: Session) -> None:
    """Three calls of 0.6 s each stay within a limit of one second."""
    code = "import time\nend = time.process_time() + 0.6\nwhile time.process_time() < end: pass"
    for _ in range(3):
        assert tight_session.run(code)["exit_code"] == 0


# Interrupt and restart ---------------------------------------------------------------------------


def test_interrupt_ends_the_running_call(session: Session) -> None:
    """The code gets a KeyboardInterrupt. The answer comes at once, and variables are kept."""
    session.run("import time\nmarker = 'here'")
    with ThreadPoolExecutor(1) as threads:
        code = "print('said')\nopen('interruptible', 'w').close()\ntime.sleep(60)\nprint('never')"
        running = threads.submit(session.run, code, timeout_ms=30_000)
        assert soon(lambda: "interruptible" in session.files())
        session.interrupt()
        result = running.result(timeout=60)
    assert result["error"]["name"] == "KeyboardInterrupt"
    assert (result["stdout"], result["timed_out"], result["state"]) == ("said\n", False, "kept")
    assert result["exit_code"] in (1, 130)
    assert session.printed("marker") == "'here'"


def test_interrupt_of_an_idle_session_does_nothing(session: Session) -> None:
    """The next call is not interrupted."""
    session.run("marker = 'here'")
    for _ in range(3):
        session.interrupt()
    time.sleep(0.2)
    assert session.printed("import time; time.sleep(0.3); marker") == "'here'"


def test_restart_keeps_only_files(session: Session) -> None:
    """Variables, threads and the current folder are gone, and the execution count starts again."""
    session.run(
        "import os\nmarker = 1\nos.makedirs('d', exist_ok=True)\nos.chdir('d')\nopen('f.txt', 'w').close()"
    )
    described = session.restart()
    assert described["session_id"] == session.id
    assert (described["execution_count"], described["state"]) == (0, "ready")
    result = session.run("import os\nprint('marker' in globals(), os.getcwd(), os.path.exists('d/f.txt'))")
    assert result["stdout"] == "False /workspace True\n"
    assert (result["execution_count"], result["state"]) == (1, "kept")


def test_restart_ends_the_running_call(session: Session) -> None:
    """The call is answered with its output so far, and says that the variables are gone."""
    with ThreadPoolExecutor(1) as threads:
        code = "import time\nmarker = 1\nprint('said')\nopen('restartable', 'w').close()\ntime.sleep(60)"
        running = threads.submit(session.run, code, timeout_ms=30_000)
        assert soon(lambda: "restartable" in session.files())
        described = session.restart()
        result = running.result(timeout=60)
    assert described["execution_count"] == 0
    assert (result["stdout"], result["state"]) == ("said\n", "restarted")
    assert result["exit_code"] != 0
    assert session.printed("'marker' in globals()") == "False"


# Standard input ----------------------------------------------------------------------------------


def test_each_call_reads_its_own_stdin(session: Session) -> None:
    """Text that one call did not read is not there for the next."""
    assert session.run("print(input('name? '))", stdin="Ada\nleft over\n")["stdout"] == "name? Ada\n"
    second = session.run("import subprocess\nprint(input())\n_ = subprocess.run(['cat'])", stdin="a\nb\n")
    assert second["stdout"] in ("a\nb\n", "a\n"), "a child has what Python has not read ahead"
    assert session.run("import sys\nprint(repr(sys.stdin.read()))", stdin="whole")["stdout"] == "'whole'\n"
    assert session.run("print(repr(sys.stdin.read()))")["stdout"] == "''\n"


def test_input_without_stdin_raises_at_once(session: Session) -> None:
    """Plain and streamed calls get an error from `input()`, and do not wait."""
    result = session.run("input('? ')")
    assert result["error"]["name"] in ("EOFError", "StdinNotImplementedError")
    assert (result["exit_code"], result["state"]) == (1, "kept")
    events = session.stream("input('? ')")
    assert events[-1].data["error"]["name"] in ("EOFError", "StdinNotImplementedError")
    assert "input_request" not in {event.type for event in events}


# Progress and displays ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "stream"),
    [
        pytest.param(
            "from tqdm import tqdm\nfor _ in tqdm(range(4), mininterval=0): time.sleep(0.4)",
            "stderr",
            id="tqdm",
        ),
        pytest.param(
            "for i in range(5):\n    print(f'\\r{i * 25}%', end='')\n    time.sleep(0.4)",
            "stdout",
            id="carriage return",
        ),
    ],
)
def test_progress_bar_is_streamed_while_it_moves(session: Session, code: str, stream: str) -> None:
    """Each step arrives when it is drawn, with its carriage return."""
    session.run("import time, warnings\nwarnings.simplefilter('ignore')")
    steps: list[float] = []
    text = ""
    with session.open_stream(code) as events:
        for event in events:
            if event.type == "output" and event.data["stream"] == stream:
                text += event.data["data"]
                steps.append(time.monotonic())
    assert "\r" in text and "25%" in text and "100%" in text
    assert len(steps) >= 4
    assert steps[-1] - steps[0] > 1.0


def test_cleared_and_updated_displays_end_as_in_a_notebook(session: Session) -> None:
    """`outputs` has the displays that a notebook would show at the end. A handle works in later calls."""
    result = session.run(
        dedent("""
            from IPython.display import clear_output, display, update_display
            display("gone")
            for i in range(3):
                clear_output(wait=True)
                display(f"step {i}")
            handle = display("first", display_id=True)
            handle.update("second")
            display("by id", display_id="fixed");
        """)
    )
    texts = [output["data"]["text/plain"] for output in result["outputs"]]
    assert texts == ["'step 2'", "'second'", "'by id'"]
    later = session.run("handle.update('third'); update_display('there', display_id='fixed')\nprint('ok')")
    assert (later["stdout"], later["exit_code"]) == ("ok\n", 0)
    assert session.run("display('a')\nclear_output()")["outputs"] == []


def test_output_between_calls_belongs_to_no_call(session: Session) -> None:
    """Text and displays of a background thread do not change the result of a later call."""
    session.run(
        dedent("""
            import threading, time
            from IPython.display import display
            def chatter():
                for i in range(10):
                    print("chatter")
                    display("chatter")
                    time.sleep(0.05)
            threading.Thread(target=chatter).start()
        """)
    )
    time.sleep(1)
    result = session.run("6 * 7")
    assert result["stdout"].endswith("42\n")
    assert result["outputs"][-1]["data"]["text/plain"] == "42"
