"""CPU time between the calls of a session: what calls leave running has a budget of its own."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import GENEROUS, serving
from tests.support.process import Service
from tests.support.session import Session, new_session
from tests.support.waiting import soon

SPIN = """
import os, signal, time
def spin():
    number = 0
    while True:
        number += 1
        if number % 100_000 == 0:
            with open('/workspace/beat', 'w') as file: print(number, file=file)
"""
QUIET_SEC = 5


@pytest.fixture(scope="module")
def frugal(open_service: Callable[..., Service]) -> Iterator[Service]:
    """A service whose sessions may use one second of CPU time between calls, and 20 in a cell."""
    yield from serving(open_service, **GENEROUS | {"IDLE_CPU_SEC": 1})


@pytest.fixture
def session(frugal: Service) -> Iterator[Session]:
    """A new session with a variable."""
    with new_session(frugal) as opened:
        opened.run(SPIN + "marker = 'here'")
        yield opened


def wait_until_quiet(session: Session) -> None:
    """Wait until nothing writes the file `beat` any more. Listing files is no call that runs code."""
    last, since = None, time.monotonic()

    def is_quiet() -> bool:
        nonlocal last, since
        beat = session.files().get("beat")
        if beat is None or beat != last:
            last, since = beat, time.monotonic()
        return time.monotonic() > since + QUIET_SEC

    assert soon(is_quiet, 120), "it still runs"


def test_process_left_behind_is_interrupted_and_the_next_answer_says_so(session: Session) -> None:
    """The answer after that says nothing any more. The variables are kept."""
    session.run(
        "if os.fork() == 0:\n"
        "    try: spin()\n"
        "    except KeyboardInterrupt: open('/workspace/interrupted', 'w').close()\n"
        "    os._exit(0)"
    )
    assert soon(lambda: "interrupted" in session.files())
    result = session.run("marker")
    assert (result["stdout"], result["state"]) == ("'here'\n", "kept")
    assert "IDLE_CPU_SEC=1 s" in result["notice"]
    assert "interrupted" in result["notice"]
    assert session.run("marker")["notice"] == ""


def test_processes_that_ignore_the_interrupt_are_killed(session: Session) -> None:
    """Twenty processes run in process groups of their own. The kernel keeps its variables."""
    session.run(
        "for _ in range(20):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid(); signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "        spin()"
    )
    wait_until_quiet(session)
    result = session.run("marker")
    assert (result["stdout"], result["state"]) == ("'here'\n", "kept")
    assert "all processes but the kernel were killed" in result["notice"]


def test_next_shell_command_says_what_was_done(session: Session) -> None:
    """A background job of a shell ignores SIGINT, and is killed."""
    session.bash(
        "(n=0; while :; do n=$((n + 1)); [ $((n % 20000)) = 0 ] && echo $n > beat; done) &>/dev/null &"
    )
    wait_until_quiet(session)
    assert "killed" in session.bash("true")["notice"]
    assert session.bash("true")["notice"] == ""
    assert session.printed("marker") == "'here'"


def test_threads_of_the_kernel_that_spin_cost_it_its_life(session: Session) -> None:
    """The next cell runs in a new kernel, and says so, and why. The files are kept."""
    session.run("import threading\nthreading.Thread(target=spin, daemon=True).start()")
    wait_until_quiet(session)
    result = session.run("'marker' in globals()")
    assert (result["stdout"], result["state"]) == ("False\n", "restarted")
    assert "IDLE_CPU_SEC=1 s" in result["state_reason"]
    assert "the kernel too" in result["notice"]
    assert "beat" in session.files()
    after = session.run("1")
    assert (after["state"], after["notice"]) == ("kept", "")


def test_processes_that_fork_and_end_all_the_time_are_stopped(session: Session) -> None:
    """No process lives long enough to be found, so the kernel may have to die with them."""
    session.run(
        "if os.fork() == 0:\n"
        "    os.setsid(); signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "    while True:\n"
        "        if os.fork(): os._exit(0)\n"
        "        with open('/workspace/beat', 'w') as file: print(os.getpid(), file=file)\n"
    )
    wait_until_quiet(session)
    result = session.run("1")
    assert "killed" in result["notice"]
    assert (result["state"] == "restarted") == (session.printed("'marker' in globals()") == "False")


def test_cell_may_use_more_than_is_allowed_between_cells(session: Session) -> None:
    """Its budget is that of a cell. A process that sleeps afterwards is left alone."""
    session.bash("sleep 1000 &>/dev/null & echo $! > sleeper")
    code = "began = time.process_time()\nwhile time.process_time() < began + 3: pass"
    assert session.run(code, timeout_ms=30_000)["error"] is None
    time.sleep(2)
    result = session.run("os.kill(int(open('sleeper').read()), 0)")
    assert (result["error"], result["notice"], result["state"]) == (None, "", "kept")


def test_completions_do_not_use_up_the_budget(session: Session) -> None:
    """Each question runs code in the kernel between the cells, for longer than the budget together."""
    session.run(
        "used = 0\n"
        "class Slow:\n"
        "    def __dir__(self):\n"
        "        global used\n"
        "        began = time.process_time()\n"
        "        while time.process_time() < began + 0.3: pass\n"
        "        used += 1\n"
        "        return ['found']\n"
        "slow = Slow()"
    )
    for _ in range(8):
        assert session.call("POST", "/complete", json={"code": "slow.fo"}).status_code == 200
    result = session.run("used")
    assert (result["notice"], result["state"]) == ("", "kept")
    assert int(result["stdout"]) * 0.3 > 2, "the completions have used too little for this test"


def test_kernel_that_is_started_in_place_of_a_busy_one_has_the_whole_budget(session: Session) -> None:
    """The CPU time of the old kernel does not count for the new one, nor does that of the start."""
    for _ in range(5):
        session.run(SPIN + "import threading\nthreading.Thread(target=spin, daemon=True).start()")
        soon(lambda: "beat" in session.files())
        time.sleep(1)
        assert session.restart()["state"] == "ready"
        session.file("DELETE", "beat")
    assert session.run("1")["notice"] == ""
