"""Shell commands in a session: the original's call and answer, beside the kernel and its files."""

from collections.abc import Iterator

import pytest

from tests.conftest import docker_only
from tests.support.api import Body, problem
from tests.support.process import Service
from tests.support.session import Session, new_session

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


def test_command_needs_no_other_field(session: Session) -> None:
    """With `cmd` alone, the answer has output, exit status and duration."""
    result = check(session.bash("echo out; echo err >&2; exit 3"))
    assert (result["stdout"], result["stderr"], result["exit_code"]) == ("out\n", "err\n", 3)
    assert result["timed_out"] is False
    assert 0 <= result["duration_ms"] < 60_000


def test_command_runs_in_bash_in_the_workspace(session: Session) -> None:
    """Pipes, arrays and here-documents work, in `/workspace`, as the user, without capabilities."""
    cmd = (
        "pwd; id -u; a=(1 2 3); echo ${#a[@]}; seq 3 | sort -r | tr '\\n' ' '; cat <<< there\n"
        "grep CapEff /proc/self/status; echo $HOME"
    )
    user_id = session.printed("import os; print(os.getuid())")
    assert check(session.bash(cmd))["stdout"].splitlines() == [
        "/workspace",
        user_id,
        "3",
        "3 2 1 there",
        "CapEff:\t0000000000000000",
        "/home/user",
    ]


def test_each_command_has_its_own_shell(session: Session) -> None:
    """The next command keeps neither the folder nor variables, but it keeps files."""
    session.bash("cd /tmp; export COLOUR=blue; echo text > /workspace/kept.txt")
    assert check(session.bash("pwd; echo ${COLOUR:-none}; cat kept.txt"))["stdout"] == (
        "/workspace\nnone\ntext\n"
    )


def test_files_are_shared_with_python(session: Session) -> None:
    """A command reads what Python wrote, and the other way round. Variables are kept."""
    session.run("marker = 'here'\nwith open('from_python.txt', 'w') as f: _ = f.write('p')")
    assert check(session.bash("cat from_python.txt; echo b > from_bash.txt"))["stdout"] == "p"
    result = session.run("print(open('from_bash.txt').read(), marker)")
    assert (result["stdout"], result["files"]) == ("b\n here\n", [])
    assert {"from_python.txt", "from_bash.txt"} <= set(session.files())


def test_command_and_its_children_are_killed_at_the_timeout(session: Session) -> None:
    """The answer has `timed_out`, no exit code and the output so far. The kernel is unharmed."""
    session.run("marker = 'here'")
    result = check(session.bash("echo said; sleep 61 & trap '' INT TERM; sleep 62", timeout_ms=2000))
    assert (result["timed_out"], result["exit_code"], result["stdout"]) == (True, None, "said\n")
    assert 2000 <= result["duration_ms"] < 30_000
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
def test_exit_code_is_the_one_a_shell_reports(session: Session, cmd: str, exit_code: int) -> None:
    """Commands end in several ways, and standard input is empty."""
    result = check(session.bash(cmd))
    assert (result["exit_code"], result["timed_out"]) == (exit_code, False)


def test_long_output_is_cut_with_a_mark(session: Session) -> None:
    """The answer has `MAX_OUTPUT_BYTES` of 20 MB. The other stream is complete, and the command goes on."""
    result = check(session.bash("yes xxxxxxx | head -c 20000000; echo whole >&2; echo end > end.txt"))
    assert result["stdout"].endswith(MARK)
    assert len(result["stdout"]) == 1_048_576 + len(MARK)
    assert (result["stderr"], result["exit_code"]) == ("whole\n", 0)
    assert "end.txt" in session.files()


def test_invalid_utf8_becomes_replacement_characters(session: Session) -> None:
    """Text in other scripts is unchanged."""
    result = check(session.bash("printf '\\xff\\xfe'; echo ' 你好 🎉'"))
    assert result["stdout"] == "\ufffd\ufffd 你好 🎉\n"


def test_background_process_does_not_delay_the_answer(session: Session) -> None:
    """The answer does not wait for a process that still has the output open."""
    result = check(session.bash("sleep 600 & echo done"))
    assert (result["stdout"], result["timed_out"]) == ("done\n", False)


def test_command_over_the_memory_limit_is_killed(session: Session) -> None:
    """The session goes on: files are kept and the next calls work."""
    session.run("with open('kept.txt', 'w') as f: _ = f.write('x')")
    result = check(session.bash("python3 -c \"x = bytearray(b'x') * 4_000_000_000\""))
    assert result["exit_code"] in (1, 137)
    assert check(session.bash("cat kept.txt"))["stdout"] == "x"
    assert session.printed("open('kept.txt').read()") == "'x'"


def test_command_and_code_at_the_same_time_get_their_own_output(session: Session) -> None:
    """The two calls run one after the other or together, and both succeed."""
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
def test_invalid_command_is_refused(session: Session, body: Body) -> None:
    """The answer is 422."""
    response = session.call("POST", "/bash", json=body)
    assert response.status_code == 422, response.text
    problem(response)


def test_commands_have_no_network(session: Session) -> None:
    """Every connection fails at once, and the supervisor's port is closed."""
    for target in ("1.1.1.1/80", "127.0.0.11/53", "127.0.0.1/8700"):
        result = check(session.bash(f"exec 3<>/dev/tcp/{target}", timeout_ms=20_000))
        assert (result["exit_code"], result["timed_out"]) == (1, False), target


@docker_only("beyond PIDS_LIMIT all of a pod's are killed: test_too_many_processes_end_the_call")
def test_command_without_a_free_process_gets_an_error(session: Session) -> None:
    """Daemons may use all of `PIDS_LIMIT`. No command starts then, and the daemons can still be ended."""
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


ARGUMENT_LIMIT = 128 << 10
"""Linux takes no single argument of this size, in bytes, with the NUL at its end."""

LONG = "é😀\\'\" $x `y` \x01\x7f\t"
"""Part of a comment: characters of several bytes, and some that a shell treats specially."""


def long_command(size: int, command: str) -> str:
    """Return the command with a comment in front of it, of so many bytes together."""
    room = size - len(command.encode()) - 2
    comment = LONG * (room // len(LONG.encode()))
    return "#" + comment + "." * (room - len(comment.encode())) + "\n" + command


@pytest.mark.parametrize(
    "size", [ARGUMENT_LIMIT - 2, ARGUMENT_LIMIT - 1, ARGUMENT_LIMIT, ARGUMENT_LIMIT + 1, 900_000, 2_500_000]
)
def test_command_of_any_accepted_size_runs_as_a_short_one(session: Session, size: int) -> None:
    """`$0`, the arguments, stdin, line numbers, exit code and the variables of the session are the same."""
    session.run("marker = 'here'")
    command = (
        "echo $0 $# $LINENO ${REPLY-unset} ${#IFS}; cat; ls /proc/self/fd | wc -l; echo 'é😀' >&2; exit 7"
    )
    short = check(session.bash("\n" + command))
    result = check(session.bash(long_command(size, command), timeout_ms=30_000))
    assert (result["stdout"], result["stderr"], result["exit_code"]) == (
        short["stdout"],
        short["stderr"],
        short["exit_code"],
    )
    assert short["stdout"].splitlines()[0] == "bash 0 2 unset 3"
    assert session.printed("marker") == "'here'"


def test_long_command_ends_as_a_short_one(session: Session) -> None:
    """A signal, a syntax error and a missing program give the exit code that a short command gets."""
    for command, exit_code in (("kill -9 $$", 137), ("if then", 2), ("no_such_command", 127), ("return", 2)):
        short = session.bash("#\n" + command)
        result = session.bash(long_command(200_000, command))
        assert (short["exit_code"], result["exit_code"]) == (exit_code, exit_code), (short, result)


def test_command_of_ten_megabytes_is_refused(session: Session) -> None:
    """The refusal is 413, nothing has run, and the session keeps its variables."""
    session.run("marker = 'here'")
    response = session.call("POST", "/bash", json={"cmd": long_command(10 << 20, "touch ran")})
    assert (response.status_code, problem(response)["code"]) == (413, "request_too_large")
    assert "ran" not in session.files()
    assert session.printed("marker") == "'here'"


def test_large_line_of_input_arrives_whole(session: Session) -> None:
    """A pipe holds 64 KiB, so the answer to `input()` comes in pieces."""
    line = "é" * 900_000
    with session.open_stream("text = input()\nlen(text), set(text)", allow_stdin=True) as events:
        for event in events:
            if event.type == "input_request":
                assert session.call("POST", "/input", json={"value": line}).status_code == 204
            elif event.type == "result":
                assert event.data["exit_code"] == 0, event.data
    assert session.printed("text == 'é' * 900_000") == "True"
