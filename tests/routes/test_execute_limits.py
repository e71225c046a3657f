"""Executions that go too far in time, memory or output, each with an end in sight."""

import threading
from textwrap import dedent

import pytest

from tests.conftest import Run
from tests.support.process import Service

MARK = "\n...[truncated: MAX_OUTPUT_BYTES={}]\n"
DEFAULT_OUTPUT_BYTES = 1_048_576
GROW = "hoard = []\nwhile True:\n    hoard.append(bytearray(b'x') * 10_000_000)"
"""Takes memory and touches it: a zeroed bytearray would only be promised."""


# Time --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stuck",
    [
        pytest.param("time.sleep(60)", id="sleep"),
        pytest.param("while True: pass", id="busy loop"),
        pytest.param("subprocess.run(['sleep', '60'])", id="child"),
        pytest.param("t = threading.Thread(target=time.sleep, args=(60,))\nt.start()", id="thread"),
        pytest.param("signal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(60)", id="deaf"),
        pytest.param("while True:\n    try: time.sleep(60)\n    except BaseException: pass", id="stubborn"),
        pytest.param("os.kill(os.getpid(), signal.SIGSTOP)", id="stopped"),
        pytest.param("import asyncio\nawait asyncio.sleep(60)", id="await"),
        pytest.param("input()", id="no input, then sleep"),
    ],
)
def test_code_over_its_timeout_is_ended(run: Run, service: Service, stuck: str) -> None:
    """All kinds of endless code end soon after the timeout."""
    if stuck == "input()":
        stuck = "try: input()\nexcept EOFError: time.sleep(60)"
    code = (
        "import os, signal, subprocess, threading, time\nprint('kept')\n"
        f"with open('f.txt', 'w') as f: _ = f.write('data')\n{stuck}"
    )
    result = run(code, timeout_ms=2000)
    assert result["timed_out"] is True
    assert result["exit_code"] is None
    assert result["error"]["name"] == "TimeoutExceeded"
    assert result["stdout"] == "kept\n"
    assert service.api.returned(result) == {"f.txt": b"data"}
    assert 2000 <= result["duration_ms"] < 30_000


def test_code_can_clean_up_after_the_timeout(run: Run, service: Service) -> None:
    """The code is interrupted first, so `finally` and `except KeyboardInterrupt` run."""
    result = run(
        dedent("""
            import time
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                print("interrupted")
            finally:
                open("saved.txt", "w").write("in time")
        """),
        timeout_ms=2000,
    )
    assert result["timed_out"] is True
    assert result["stdout"] == "interrupted\n"
    assert service.api.returned(result) == {"saved.txt": b"in time"}


def test_shortest_timeout_is_one_millisecond(run: Run) -> None:
    """With a `timeout_ms` of 1, slow code is ended."""
    result = run("import time\ntime.sleep(5)\nprint('never')", timeout_ms=1)
    assert result["timed_out"] is True
    assert result["stdout"] == ""


def test_cpu_time_has_its_own_limit(tight_service: Service) -> None:
    """Over `CPU_TIME_LIMIT_SEC` the exit code is 152, and it is not reported as a timeout."""
    result = tight_service.api.run("print('kept')\nwhile True: pass", timeout_ms=60_000)
    assert (result["exit_code"], result["timed_out"]) == (152, False)
    assert result["error"]["name"] == "CpuTimeLimitExceeded"
    assert result["stdout"] == "kept\n"


def test_sleep_uses_no_cpu_time(tight_service: Service) -> None:
    """Code may wait for longer than `CPU_TIME_LIMIT_SEC`."""
    result = tight_service.api.run("import time\ntime.sleep(1.5)\nprint('awake')")
    assert (result["stdout"], result["exit_code"]) == ("awake\n", 0)


# Memory ------------------------------------------------------------------------------------------


def test_code_over_the_memory_limit_keeps_its_files(
    default_service: Service,
) -> None:
    """Memory without end is 137 and an error that says memory; service and files survive it."""
    api = default_service.api
    code = f"print('kept')\nwith open('f.txt', 'w') as f: _ = f.write('data')\n{GROW}"
    result = api.run(code)
    assert (result["exit_code"], result["timed_out"]) == (137, False)
    assert result["error"]["name"] == "MemoryLimitExceeded"
    assert "memory" in result["error"]["value"].lower()
    assert result["stdout"] == "kept\n"
    assert api.returned(result) == {"f.txt": b"data"}
    assert api.run("print('next')")["stdout"] == "next\n"


def test_code_can_use_its_memory(default_service: Service) -> None:
    """Code can use three quarters of the default `MEMORY_LIMIT_MB`, with or without pandas."""
    code = "import numpy, pandas\nx = bytearray(b'x') * (96 * 1024 * 1024)\nprint(len(x))"
    result = default_service.api.run(code)
    assert (result["stdout"], result["exit_code"]) == (f"{96 * 1024 * 1024}\n", 0)


def test_child_over_the_memory_limit_does_not_delay_the_answer(run: Run) -> None:
    """The child is killed. The parent notices it, or is reported as out of memory, too."""
    result = run(
        dedent("""
            import subprocess, sys
            child = subprocess.run([sys.executable, "-c", "x = bytearray(b'x') * 4_000_000_000"])
            print(child.returncode)
        """)
    )
    # Plain Python in a container: the child dies of SIGKILL and the parent goes on. An engine that
    # ends the whole group must say memory.
    if result["exit_code"] == 0:
        assert result["stdout"] == "-9\n"
    else:
        assert result["exit_code"] == 137
        assert result["error"]["name"] == "MemoryLimitExceeded"


# Output ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "flood"),
    [
        ("stdout", "for _ in range(500): print('x' * 99_999)"),
        ("stderr", "for _ in range(500): print('x' * 99_999, file=sys.stderr)"),
        ("stdout", "for _ in range(50): os.write(1, b'x' * 1_000_000)"),
        ("stderr", "subprocess.run('yes xxxxxxx | head -c 50000000 >&2', shell=True)"),
    ],
)
def test_long_output_is_cut_with_a_mark(run: Run, service: Service, stream: str, flood: str) -> None:
    """50 MB are cut at the limit, the code goes on, and the other stream is complete."""
    other = {"stdout": "stderr", "stderr": "stdout"}[stream]
    code = f"import os, subprocess, sys\n{flood}\nprint('whole', file=sys.{other})\n"
    result = run(code + "with open('end.txt', 'w') as f: _ = f.write('reached')")
    mark = MARK.format(DEFAULT_OUTPUT_BYTES)
    assert result[stream].endswith(mark)
    kept = result[stream].removesuffix(mark)
    assert len(kept) == DEFAULT_OUTPUT_BYTES
    assert kept.startswith("x") and set(kept) <= {"x", "\n"}
    assert result["truncated"] == [stream]
    assert result[other] == "whole\n"
    assert result["exit_code"] == 0
    assert service.api.returned(result) == {"end.txt": b"reached"}


def test_the_limit_is_exact_and_per_stream(tight_service: Service) -> None:
    """Exactly the limit is not cut, one byte more is, and each stream counts for itself."""
    api, mark = tight_service.api, MARK.format(4096)
    code = "import sys\nsys.stdout.write('o' * {})\nsys.stderr.write('e' * {})\nNone"
    whole = api.run(code.format(4096, 4096))
    assert (whole["stdout"], whole["stderr"]) == ("o" * 4096, "e" * 4096)
    assert whole["truncated"] == []
    one_more = api.run(code.format(4096, 4097))
    assert (one_more["stdout"], one_more["stderr"]) == ("o" * 4096, "e" * 4096 + mark)
    assert one_more["truncated"] == ["stderr"]
    both = api.run(code.format(9999, 9999))
    assert (both["stdout"], both["stderr"]) == ("o" * 4096 + mark, "e" * 4096 + mark)
    assert sorted(both["truncated"]) == ["stderr", "stdout"]


def test_a_cut_never_splits_a_character(tight_service: Service) -> None:
    """Where the limit falls inside a character, that character is left out."""
    result = tight_service.api.run("print('a' + '€' * 3000)")
    kept = result["stdout"].removesuffix(MARK.format(4096))
    assert kept == "a" + "€" * 1365  # 1 + 3 * 1365 = 4096 bytes
    shifted = tight_service.api.run("print('aa' + '€' * 3000)")
    assert shifted["stdout"] == "aa" + "€" * 1364 + MARK.format(4096)


def test_long_output_does_not_fill_the_memory_of_the_service(service: Service) -> None:
    """An execution prints 300 MB while the memory of the service stays flat."""
    service.api.run("print('warm')")
    before = service.resident_kb()
    done = threading.Event()
    peak = before

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, service.resident_kb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = service.api.run(
            "import subprocess\nsubprocess.run('yes | head -c 300000000', shell=True)\nNone",
            timeout_ms=25_000,
        )
    finally:
        done.set()
        watcher.join()
    assert result["truncated"] == ["stdout"]
    assert result["timed_out"] is False
    assert peak - before < 50 * 1024, f"grew by {peak - before} KiB"


def test_rich_outputs_have_a_limit_together(tight_service: Service) -> None:
    """Displays over `MAX_DISPLAY_BYTES` are left out, a note reports it, and the code continues."""
    result = tight_service.api.run(
        dedent("""
            for i in range(30):
                display({"text/plain": str(i), "text/html": "x" * 10_000}, raw=True)
            print("end")
        """)
    )
    assert result["truncated"] == ["outputs"]
    assert 1 <= len(result["outputs"]) < 30
    assert sum(len(str(output)) for output in result["outputs"]) < 110_000
    assert result["outputs"][0]["data"]["text/plain"] == "0"
    assert (result["stdout"], result["exit_code"]) == ("end\n", 0)


def test_files_over_the_limit_are_named_as_skipped(tight_service: Service) -> None:
    """A file over `MAX_OUTPUT_FILES` is among the skipped files, with a reason."""
    result = tight_service.api.run(
        "for i in range(8):\n    with open(f'{i}.txt', 'w') as f: _ = f.write(str(i))"
    )
    returned = {file["path"] for file in result["files"]}
    skipped = {file["path"] for file in result["skipped_files"]}
    assert len(returned) == 5
    assert returned | skipped == {f"{i}.txt" for i in range(8)}
    assert not returned & skipped
