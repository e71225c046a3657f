"""Shell commands in a session: the original's call and answer, beside the kernel and its files."""

import time
from collections.abc import Iterator

import pytest

from tests.conftest import docker_only
from tests.support.api import Body, problem
from tests.support.process import Service
from tests.support.session import Session, new_session

pytestmark = pytest.mark.timeout(60)

MARK = "\n...[truncated: MAX_OUTPUT_BYTES=1048576]\n"


@pytest.fixture(scope="module")
def session(default_service: Service) -> Iterator[Session]:
    """One session of a service with nothing but defaults, as the original's clients meet it."""
    with new_session(default_service) as opened:
        yield opened


def check(result: Body) -> Body:
    """The result, once it is known to have the original's fields and types."""
    kinds = {"stdout": str, "stderr": str, "exit_code": int | None, "timed_out": bool, "duration_ms": int}
    for name, kind in kinds.items():
        assert isinstance(result[name], kind), f"{name} is {result[name]!r}"
    return result


def test_a_command_needs_nothing_but_itself(session: Session) -> None:
    """`cmd` alone is enough: its output, its exit status and how long it took."""
    result = check(session.bash("echo out; echo err >&2; exit 3"))
    assert (result["stdout"], result["stderr"], result["exit_code"]) == ("out\n", "err\n", 3)
    assert result["timed_out"] is False
    assert 0 <= result["duration_ms"] < 5000


def test_it_is_bash_in_the_workspace(session: Session) -> None:
    """Pipes, arrays and here-documents work, in `/workspace`, as the user, without capabilities."""
    cmd = (
        "pwd; id -u; a=(1 2 3); echo ${#a[@]}; seq 3 | sort -r | tr '\\n' ' '; cat <<< there\n"
        "grep CapEff /proc/self/status; echo $HOME"
    )
    assert check(session.bash(cmd))["stdout"].splitlines() == [
        "/workspace",
        "1000",
        "3",
        "3 2 1 there",
        "CapEff:\t0000000000000000",
        "/home/user",
    ]


def test_each_command_is_a_shell_of_its_own(session: Session) -> None:
    """Neither folder nor variables last; files do."""
    session.bash("cd /tmp; export COLOUR=blue; echo text > /workspace/kept.txt")
    assert check(session.bash("pwd; echo ${COLOUR:-none}; cat kept.txt"))["stdout"] == (
        "/workspace\nnone\ntext\n"
    )


def test_files_are_shared_with_the_code_both_ways(session: Session) -> None:
    """A command reads what Python wrote and the other way round; variables are not touched."""
    session.run("marker = 'here'\nwith open('from_python.txt', 'w') as f: _ = f.write('p')")
    assert check(session.bash("cat from_python.txt; echo b > from_bash.txt"))["stdout"] == "p"
    result = session.run("print(open('from_bash.txt').read(), marker)")
    assert (result["stdout"], result["files"]) == ("b\n here\n", [])
    assert {"from_python.txt", "from_bash.txt"} <= set(session.files())


def test_a_command_past_its_time_is_killed_with_its_children(session: Session) -> None:
    """`timed_out`, no exit code, the output so far; nothing of it runs on, and the kernel is unharmed."""
    session.run("marker = 'here'")
    began = time.monotonic()
    result = check(session.bash("echo said; sleep 61 & trap '' INT TERM; sleep 62", timeout_ms=600))
    assert time.monotonic() - began < 6
    assert (result["timed_out"], result["exit_code"], result["stdout"]) == (True, None, "said\n")
    assert 600 <= result["duration_ms"] < 5000
    assert "sleep" not in check(session.bash("cat /proc/[0-9]*/comm"))["stdout"]
    assert session.printed("marker") == "'here'"


@pytest.mark.parametrize(
    ("cmd", "exit_code"),
    [
        pytest.param("no_such_command", 127, id="no such command"),
        pytest.param("kill -9 $$", 137, id="killed"),
        pytest.param("kill -TERM $$", 143, id="terminated"),
        pytest.param("if then", 2, id="syntax"),
        pytest.param("true", 0, id="true"),
        pytest.param("cat", 0, id="nothing to read"),
    ],
)
def test_exit_codes_are_a_shells(session: Session, cmd: str, exit_code: int) -> None:
    """However a command ends, the code is the one a shell would see; standard input is empty."""
    result = check(session.bash(cmd))
    assert (result["exit_code"], result["timed_out"]) == (exit_code, False)


def test_a_flood_is_cut_with_a_mark(session: Session) -> None:
    """20 MB of output are cut at `MAX_OUTPUT_BYTES`, the other stream is whole, the command runs on."""
    result = check(session.bash("yes xxxxxxx | head -c 20000000; echo whole >&2; echo end > end.txt"))
    assert result["stdout"].endswith(MARK)
    assert len(result["stdout"]) == 1_048_576 + len(MARK)
    assert (result["stderr"], result["exit_code"]) == ("whole\n", 0)
    assert "end.txt" in session.files()


def test_output_that_is_no_text_spoils_nothing(session: Session) -> None:
    """Bytes that are not UTF-8 become replacement characters; other scripts pass."""
    result = check(session.bash("printf '\\xff\\xfe'; echo ' 你好 🎉'"))
    assert result["stdout"] == "\ufffd\ufffd 你好 🎉\n"


def test_a_process_left_behind_does_not_hold_the_answer_back(session: Session) -> None:
    """A background process with the output still open is no reason to wait."""
    began = time.monotonic()
    assert check(session.bash("sleep 20 & echo done"))["stdout"] == "done\n"
    assert time.monotonic() - began < 4


def test_a_command_that_takes_too_much_memory_is_killed(session: Session) -> None:
    """It ends, not the session: Python's files are kept and the next calls work."""
    session.run("with open('kept.txt', 'w') as f: _ = f.write('x')")
    result = check(session.bash("python3 -c \"x = bytearray(b'x') * 4_000_000_000\""))
    assert result["exit_code"] in (1, 137)
    assert check(session.bash("cat kept.txt"))["stdout"] == "x"
    assert session.printed("open('kept.txt').read()") == "'x'"


def test_a_command_while_code_runs_is_answered_right(session: Session) -> None:
    """Beside the running call or after it, both end well with their own output."""
    cell_id = session.detach("import time\ntime.sleep(1.5)\nprint('code')")
    assert check(session.bash("echo bash"))["stdout"] == "bash\n"
    assert session.finished(cell_id)["result"]["stdout"] == "code\n"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"cmd": None},
        {"cmd": 1},
        {"cmd": ["ls"]},
        {"cmd": "a\0b"},
        {"cmd": "true", "timeout_ms": 0},
        {"cmd": "true", "timeout_ms": "100"},
        {"cmd": "true", "timeout_ms": 1.5},
        {"cmd": "true", "timeout_ms": None},
    ],
)
def test_a_bad_command_is_refused(session: Session, body: Body) -> None:
    """What makes no sense is 422."""
    response = session.call("POST", "/bash", json=body)
    assert response.status_code == 422, response.text
    problem(response)


def test_commands_have_no_way_out(session: Session) -> None:
    """A connection to anywhere fails at once, and the supervisor's port is closed."""
    began = time.monotonic()
    for target in ("1.1.1.1/80", "127.0.0.11/53", "127.0.0.1/8700"):
        result = check(session.bash(f"exec 3<>/dev/tcp/{target}", timeout_ms=5000))
        assert result["exit_code"] == 1, target
    assert time.monotonic() - began < 8


@docker_only("beyond PIDS_LIMIT all of a pod's are killed: test_too_many_processes_end_the_call")
def test_without_room_for_a_process_the_answer_says_so(session: Session) -> None:
    """Daemons may use up `PIDS_LIMIT`: no command starts then, and they can still be ended."""
    filled = session.run(
        "import subprocess\nmany = []\ntry:\n"
        "    while True: many.append(subprocess.Popen(['sleep', '100']))\nexcept OSError: pass"
    )
    assert filled["exit_code"] == 0
    result = check(session.bash("echo started"))
    assert (result["stdout"], result["exit_code"]) == ("", 126)
    assert "no room for another process" in result["stderr"]
    session.run("for one in many:\n    one.kill()\n    _ = one.wait()")
    assert session.bash("echo started")["stdout"] == "started\n"
