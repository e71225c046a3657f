"""The command line: `run`, `sessions`, `files`, `image build`, with a real service and real terminals."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pexpect
import PIL.Image
import pytest

from code_interpreter_client import Client
from code_interpreter_client.cli.app import run_command
from tests.client.command import PROGRAM, command, environment, on_terminal, sentence
from tests.client.conftest import ALICE
from tests.support.engine import IMAGE
from tests.support.process import ROOT, Service, free_port
from tests.support.waiting import soon

SCRIPT = """
import sys
from pathlib import Path
import matplotlib.pyplot as plt
print(Path("data.csv").read_text(), end="")
print("to stderr", file=sys.stderr)
plt.figure(figsize=(2, 1)); plt.plot([1, 2]); plt.show()
Path("res/deep").mkdir(parents=True)
Path("res/deep/ü.txt").write_text("made")
40 + 2
sys.exit(7)
"""


RunHere = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_here(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> RunHere:
    """Runs the command in this process, because a process of its own takes up to a second to start."""
    monkeypatch.setenv("CODE_INTERPRETER_URL", service.base_url)

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        capsys.readouterr()
        status = run_command(list(arguments))
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return run


def test_run_sends_files_with_the_script_and_saves_results(service: Service, folder: Path) -> None:
    """Streams and exit status are the script's; its files and images are in the folder."""
    (folder / "script.py").write_text(SCRIPT)
    (folder / "data.csv").write_text("a,b\n1,2\n")
    (folder / "out").mkdir()
    (folder / "out" / "image-1.png").write_text("mine")
    arguments = ("run", "script.py", "--file", "data.csv", "--out", "./out", "--timeout", "25")
    ended = command(service.base_url, folder, *arguments)
    assert ended.returncode == 7, ended.stderr
    assert ended.stdout == "a,b\n1,2\n"
    assert ended.stderr.splitlines() == [
        "to stderr",
        "[image: out/image-2.png]",
        "[file: out/res/deep/ü.txt]",
    ]
    assert (folder / "out" / "image-1.png").read_text() == "mine"
    assert (folder / "out/res/deep/ü.txt").read_text() == "made"
    with PIL.Image.open(folder / "out" / "image-2.png") as image:
        assert image.format == "PNG"
    with Client(service.base_url) as client:
        assert "data.csv" not in [file.filename for file in client.list_files()]


def test_run_without_out_reports_what_it_did_not_save(service: Service, folder: Path) -> None:
    """No file is written; `--file` can give an input another path."""
    (folder / "x.txt").write_text("ab")
    code = "open('made.txt', 'w').write(open('in/y.txt').read())"
    ended = command(service.base_url, folder, "run", "-c", code, "--file", "x.txt=in/y.txt")
    assert (ended.returncode, ended.stdout) == (0, "2\n")
    assert sentence(ended) == "not saved: made.txt. Use --out DIR to save files and images."
    assert [path.name for path in folder.iterdir()] == ["x.txt"]


def test_run_reads_code_from_a_pipe_and_input_from_a_file(service: Service, folder: Path) -> None:
    """`-` is a script on standard input, whose last value is not shown; `--stdin` is what the code reads."""
    (folder / "names").write_text("Ada\n")
    ended = command(service.base_url, folder, "run", "-", "--stdin", "names", stdin="print(input())\n5")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "Ada\n", "")
    ended = command(service.base_url, folder, "run", "-c", "input()", "--stdin", "-", stdin="Bob\n")
    assert (ended.returncode, ended.stdout) == (0, "'Bob'\n")


def test_exit_status_is_124_after_a_timeout_and_1_after_an_exception(service: Service, folder: Path) -> None:
    """124 is the status of timeout(1). Text that was printed before is there."""
    code = "import time; print('began', flush=True); time.sleep(20)"
    ended = command(service.base_url, folder, "run", "-c", code, "--timeout", "2")
    assert (ended.returncode, ended.stdout) == (124, "began\n")
    assert ended.stderr.endswith("code-interpreter: the code timed out after 2 s; --timeout sets the limit\n")
    ended = command(service.base_url, folder, "run", "-c", "1 / 0")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


def started(service: Service, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start `run`, and wait until the code has printed a line."""
    process = subprocess.Popen(
        [PROGRAM, "run", *arguments],
        cwd=folder,
        env=environment(service.base_url, folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "began\n"
    return process


def busy(service: Service) -> int:
    """Return how many kernels are running code."""
    count: int = service.api.http.get("/ready").json()["pool"]["busy"]
    return count


SLEEP = "import time\nprint('began', flush=True)\ntime.sleep(25)"


def test_ctrl_c_stops_the_code(service: Service, folder: Path) -> None:
    """Output is printed while the code runs; afterwards no kernel is busy with the code."""
    assert soon(lambda: busy(service) == 0, 60)
    with started(service, folder, "-c", SLEEP, "--timeout", "28") as process:
        assert busy(service) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert soon(lambda: busy(service) == 0, 60)


def test_ctrl_c_interrupts_the_code_in_a_session(service: Service, folder: Path) -> None:
    """The code gets a KeyboardInterrupt and can still print; the session keeps its variables."""
    code = dedent("""
        import time
        kept = 5
        print('began', flush=True)
        try:
            time.sleep(25)
        finally:
            print('ended')
    """)
    with Client(service.base_url) as client, client.session() as session:
        options = ("-c", code, "--timeout", "28", "--session", session.session_id)
        with started(service, folder, *options) as process:
            process.send_signal(signal.SIGINT)
            output, problems = process.communicate(timeout=20)
        assert (process.returncode, output) == (130, "ended\n")
        assert problems.splitlines()[-1] == "KeyboardInterrupt"
        assert session.run("kept").stdout == "5\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        pytest.param(["run"], 2, "Give a script", id="nothing"),
        pytest.param(["run", "a.py", "-c", "1"], 2, "Give a script", id="both"),
        pytest.param(["run", "no-such.py"], 125, "no-such.py: No such file or directory", id="no script"),
        pytest.param(["run", "binary"], 125, "binary is not UTF-8 text", id="no text"),
        pytest.param(["run", "-c", "1", "--file", "no-such"], 125, "no-such: No such file", id="no file"),
        pytest.param(["run", "-c", "1", "--file", "."], 125, "is a folder", id="folder"),
        pytest.param(
            ["run", "-c", "1", "--timeout", "9999"], 125, "--timeout is at most 30 s", id="too long"
        ),
        pytest.param(["run", "-c", "1", "--timeout", "-1"], 125, "A timeout must be", id="negative"),
        pytest.param(["run", "-c", "1", "--session", "x"], 125, "Session 'x' not found", id="no session"),
        pytest.param(
            ["--url", "nowhere", "files", "ls"], 1, "is not the address of a service", id="no address"
        ),
        pytest.param(["files", "get", "no-such"], 1, "not found", id="no stored file"),
        pytest.param(
            ["files", "get", "../x", "--session", "x"],
            1,
            "Session 'x' not found",
            id="file of an unknown session",
        ),
        pytest.param(["sessions", "rm", "x"], 1, "Session 'x' not found", id="no session to end"),
        pytest.param(["shell"], 1, "needs a terminal", id="no terminal"),
        pytest.param(["image", "build"], 1, "run this in a checkout", id="no checkout"),
        pytest.param(["nonsense"], 2, "No such command", id="no command"),
    ],
)
def test_error_is_one_sentence_and_an_exit_status(
    run_here: "RunHere", folder: Path, arguments: list[str], status: int, message: str
) -> None:
    """The sentence is on stderr; there is no traceback, and nothing on stdout."""
    (folder / "binary").write_bytes(b"\xff\xfe\x00")
    ended = run_here(*arguments)
    assert message in sentence(ended)
    assert (ended.returncode, ended.stdout) == (status, "")


def test_missing_service_or_key_is_reported_with_its_setting(crowded: Service, folder: Path) -> None:
    """The sentence names CODE_INTERPRETER_URL or CODE_INTERPRETER_API_KEY."""
    unused = f"http://127.0.0.1:{free_port()}"
    ended = command(unused, folder, "run", "-c", "1")
    assert ended.returncode == 125
    assert "Is it running? Set its address with CODE_INTERPRETER_URL or --url" in sentence(ended)
    ended = command(crowded.base_url, folder, "files", "ls")
    assert ended.returncode == 1
    assert "CODE_INTERPRETER_API_KEY" in sentence(ended)
    ended = command(crowded.base_url, folder, "files", "ls", CODE_INTERPRETER_API_KEY=ALICE)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_sessions_and_files_commands_list_create_and_delete(run_here: "RunHere", folder: Path) -> None:
    """Ids and paths are printed one a line, so that other commands can read them."""

    def output(*arguments: str) -> str:
        ended = run_here(*arguments)
        assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
        return ended.stdout

    (folder / "ü 1.txt").write_text("content")
    session = output("sessions", "new", "--ttl", "60").strip()
    assert session in [line.split("\t")[0] for line in output("sessions", "ls").splitlines()]
    assert output("files", "put", "ü 1.txt", "--as", "a/b.txt", "--session", session) == "a/b.txt\n"
    assert output("files", "ls", "--session", session).split("\t")[:2] == ["a/b.txt", "7"]
    assert output("files", "get", "a/b.txt", "--session", session, "--out", "got") == "got/a/b.txt\n"
    assert (folder / "got/a/b.txt").read_text() == "content"
    output("files", "rm", "a/b.txt", "--session", session)
    assert output("files", "ls", "--session", session) == ""
    output("sessions", "rm", session)
    file_id = output("files", "put", "ü 1.txt").strip()
    listed: list[dict[str, Any]] = json.loads(output("files", "ls", "--json"))
    assert [file["filename"] for file in listed if file["file_id"] == file_id] == ["ü 1.txt"]
    assert output("files", "get", file_id, "--out", "got") == "got/ü 1.txt\n"
    output("files", "rm", file_id)
    assert file_id not in output("files", "ls")


def test_closed_pipe_is_not_an_error(service: Service, folder: Path) -> None:
    """`… | head -1` closes the pipe early; the command prints no traceback."""
    code = "for i in range(50000): print('line', i)"
    with subprocess.Popen(
        f'"{PROGRAM}" run -c "{code}" | head -n 1',
        shell=True,
        cwd=folder,
        env=environment(service.base_url, folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        output, problems = process.communicate(timeout=60)
    assert (output, problems) == ("line 0\n", "")


def test_terminal_shows_colours_tables_and_progress_bars(service: Service, folder: Path) -> None:
    """Control sequences of the code are removed; large files have a bar, and lists a header."""
    code = r"print('\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jdone')"
    terminal = on_terminal(service.base_url, folder, "run", "-c", code)
    terminal.expect_exact("\x1b[31mred\x1b[0m done")
    terminal.expect_exact("\r\n")
    with (folder / "large.bin").open("wb") as file:
        file.truncate(9 << 20)
    terminal = on_terminal(service.base_url, folder, "files", "put", "large.bin")
    terminal.expect_exact("9.4 MB")
    terminal.expect(r"[0-9a-f]{8}-[0-9a-f-]{27}")
    file_id = terminal.match.group()
    terminal.wait()
    terminal = on_terminal(service.base_url, folder, "files", "get", file_id)
    terminal.expect_exact("9.4 MB")
    terminal.expect("\rlarge.bin|\nlarge.bin|large.bin\r\n")
    terminal.wait()
    assert (folder / "large.bin").stat().st_size == 9 << 20
    terminal = on_terminal(service.base_url, folder, "files", "ls")
    terminal.expect("name.*size.*expires")
    terminal.expect_exact("large.bin")
    terminal.wait()


BUILD = """#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "$0")/.."
. {root}/scripts/lib.sh
if [ "${{IMAGE:-}}" = broken ]; then echo "what went wrong"; exit 3; fi
export DOCKER_BUILDKIT=0
step "Build it as $IMAGE" logged log '^Step|^#[0-9]+ \\[' docker build --force-rm --tag "$IMAGE" .
"""


@pytest.fixture
def checkout(folder: Path) -> Path:
    """Make a checkout whose image Docker builds in three steps, with output like the real script's."""
    script = folder / "kernel_image" / "build"
    script.parent.mkdir()
    script.write_text(BUILD.format(root=ROOT))
    script.chmod(0o755)
    (folder / "Dockerfile").write_text(
        f"FROM {IMAGE}\nLABEL code-interpreter.test=1\nLABEL code-interpreter.test=2\n"
    )
    (folder / ".dockerignore").write_text("*\n")
    (folder / "deep").mkdir()
    return folder


def test_image_build_shows_its_steps(checkout: Path) -> None:
    """A terminal has a progress bar, other output has lines; a failure is reported with its exit status."""
    tag = f"code-interpreter-client-test:{os.getpid()}"
    try:
        ended = command("", checkout / "deep", "image", "build", "--tag", tag)
        assert ended.returncode == 0, ended.stderr
        assert "Step 3/3 : LABEL" in ended.stdout
        terminal = on_terminal("", checkout, "image", "build", "--tag", tag)
        terminal.expect_exact("Build it as")
        terminal.expect("step [123]/3")
        assert terminal.wait() == 0
    finally:
        subprocess.run(["docker", "image", "rm", tag], capture_output=True, timeout=60, check=False)
    ended = command("", checkout, "image", "build", "--tag", "broken")
    assert (ended.returncode, ended.stdout) == (3, "what went wrong\n")
    assert sentence(ended) == "kernel_image/build failed with exit status 3"


def test_text_and_displays_are_printed_in_order_each_display_on_a_line_of_its_own(
    service: Service, run_here: RunHere
) -> None:
    """Without a newline before a display, the command begins a line for it."""
    code = "print('text', end=' '); display('x'); print(1); display('y'); print('end')"
    for _ in range(4):
        assert run_here("run", "-c", code).stdout == "text \n'x'\n1\n'y'\nend\n"


def test_cleared_output_is_removed_from_a_terminal(service: Service, folder: Path) -> None:
    """The cursor goes up by the lines that were shown since the last time, and the rest is erased."""
    code = (
        "from IPython.display import clear_output\n"
        "for i in range(3): clear_output(wait=True); print('step', i); display(i)"
    )
    terminal = on_terminal(service.base_url, folder, "run", "-c", code)
    terminal.expect(pexpect.EOF)
    assert terminal.before.count("\x1b[2A\x1b[J") == 2
