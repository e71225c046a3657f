"""Runs the command `code-interpreter` as users do: as a process with pipes, or on a terminal."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect

from tests.support.process import INHERITED

PROGRAM = Path(sys.executable).with_name("code-interpreter")
SECONDS = 30


def environment(url: str, home: Path, **more: str) -> dict[str, str]:
    """Return the whole environment of the command."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return inherited | {
        "CODE_INTERPRETER_URL": url,
        "HOME": str(home),
        "TERM": "xterm",
        "PROMPT_TOOLKIT_NO_CPR": "1",
        **more,
    }


def command(
    url: str, folder: Path, *arguments: str, stdin: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder` and wait until it ends."""
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=folder,
        env=environment(url, folder, **more),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def on_terminal(url: str, folder: Path, *arguments: str) -> Any:
    """Start the command on a new terminal."""
    return pexpect.spawn(
        str(PROGRAM),
        list(arguments),
        cwd=str(folder),
        env=environment(url, folder),
        encoding="utf-8",
        timeout=SECONDS,
        dimensions=(40, 120),
    )


def sentence(ended: subprocess.CompletedProcess[str]) -> str:
    """Return the one sentence that a failed command printed on stderr."""
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("code-interpreter: ")
    return lines[0].removeprefix("code-interpreter: ")
