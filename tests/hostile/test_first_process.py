"""Tests of attacks on the processes that are not the user's: PID 1 with all its threads, and the zygote."""

import json
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.session import Session

pytestmark = pytest.mark.usefixtures("canary")

ATTACK = (Path(__file__).parents[1] / "inside" / "first_process.py").read_text()


def test_code_cannot_reach_the_first_process(session: Session) -> None:
    """Code cannot open PID 1's descriptors, memory or environment, and cannot signal PID 1."""
    result = session.run(
        dedent("""
            import os, signal
            refused = []
            for path in ("fd/1", "fd/2", "mem", "environ", "root/etc", "cwd", "oom_score_adj"):
                try: os.close(os.open(f"/proc/1/{path}", os.O_WRONLY if path != "environ" else os.O_RDONLY))
                except OSError as error: refused.append(path)
            for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
                try: os.kill(1, number)
                except PermissionError: refused.append(number.name)
            print(len(refused), refused)
        """)
    )
    assert result["stdout"].startswith("10 "), result["stdout"]


def test_code_cannot_change_any_thread_of_others(session: Session) -> None:
    """Signals, policies, nice values, affinities, I/O priorities, limits, memory and files are refused.

    Each is tried on each thread of PID 1 and of the zygote, by thread, process, group and user.
    """
    result = session.run(ATTACK, timeout_ms=20_000)
    assert result["exit_code"] == 0, result["stderr"]
    found = json.loads(result["stdout"])
    assert found["threads"] >= 3, "PID 1 has at least two threads, and the zygote one"
    assert found["done"] == []
    assert found["after"] == found["before"]
    assert session.printed("print('still here')") == "still here"
