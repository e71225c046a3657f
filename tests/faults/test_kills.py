"""A container, its supervisor, zygote or kernel is killed at each stage of a call and of a session."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from tests.faults.conftest import canary, descendants, processes
from tests.sessions.test_session_survival import container_of
from tests.support.api import check_result, problem
from tests.support.process import Service
from tests.support.session import Session, check_session_result, new_session
from tests.support.sse import Event, wait_for_print

pytestmark = pytest.mark.parametrize("victim", ["container", "supervisor", "zygote", "kernel"])

ANSWER_SECONDS = 60.0
"""A call whose container dies is answered within this time. Had its code ended by itself, it would say so."""

MARK = "sleep 123.{:06d}"
RUNNING = "import os\nif os.fork() == 0: os.execlp('sleep', *'{mark}'.split())\n"


def kill(service: Service, victim: str, container_id: str) -> None:
    """`docker rm -f`, or SIGKILL from outside."""
    if victim == "container":
        service.engine.remove(container_id)
    else:
        pid = processes(service.engine, container_id)[victim]
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.01)
        time.sleep(0.1)  # until its parent has heard of it


def container_with(service: Service, mark: str) -> str:
    """The container in which a command with these words runs, once it does."""
    wanted = mark.replace(" ", "\0").encode()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for container in service.engine.inspected(service.instance_id):
            for pid in descendants(int(container["State"]["Pid"])):
                if wanted in _command(pid):
                    return str(container["Id"])
        time.sleep(0.05)
    raise AssertionError(f"{mark} runs nowhere")


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def check_ended(response: httpx.Response) -> None:
    """The answer to a call whose container or kernel was killed: it says so."""
    if response.status_code == 200:
        result = response.json()
        check_result(result)
        assert result["error"] is not None and result["exit_code"] != 0, result
    else:
        assert problem(response)["code"] in ("kernel_failed", "session_ended"), response.text


def test_while_it_waits_in_the_pool(shaken: Service, victim: str) -> None:
    """Whoever calls next is served, by another if need be, and the pool fills up again."""
    file_id = shaken.api.upload(b"kept")
    for container_id in shaken.settle():
        kill(shaken, victim, container_id)
    canary(shaken, {file_id: b"kept"})
    shaken.settle()


def test_while_a_call_runs(shaken: Service, victim: str) -> None:
    """The caller hears of it at once, not when the time is over."""
    mark = MARK.format(time.monotonic_ns() % 1_000_000)
    answers: list[httpx.Response] = []

    def call() -> None:
        code = RUNNING.format(mark=mark) + "import time; time.sleep(25)"
        answers.append(shaken.api.execute(code, timeout_ms=30_000))

    caller = threading.Thread(target=call)
    caller.start()
    kill(shaken, victim, container_with(shaken, mark))
    caller.join(ANSWER_SECONDS)
    assert answers, "the caller still waits"
    check_ended(answers[0])
    canary(shaken)


def test_while_it_streams(shaken: Service, victim: str) -> None:
    """What was printed has arrived, and the last event says how it ended."""
    mark = MARK.format(time.monotonic_ns() % 1_000_000)
    code = RUNNING.format(mark=mark) + dedent("""
        import time
        for i in range(2500):
            print(i, flush=True)
            time.sleep(0.01)
    """)
    received: list[Event] = []
    with shaken.api.open_stream(code, timeout_ms=30_000) as events:
        received.append(next(events))
        kill(shaken, victim, container_with(shaken, mark))
        received.extend(events)
    *output, last = received
    printed = "".join(event.data["data"] for event in output if event.data.get("stream") == "stdout")
    lines = printed.splitlines()[:-1]
    assert lines == [str(i) for i in range(len(lines))]
    assert last.type == "error" or (last.type == "result" and last.data["error"] is not None)
    canary(shaken)


def test_while_its_files_are_collected(shaken: Service, victim: str) -> None:
    """Each file that the answer names is there, whole; the others are said to be skipped."""
    mark = MARK.format(time.monotonic_ns() % 1_000_000)
    code = RUNNING.format(mark=mark) + dedent("""
        import time
        print("begun", flush=True)
        time.sleep(1)
        for i in range(40):
            with open(f"{i}.bin", "wb") as file: _ = file.write(bytes([i]) * 300_000)
        print("written", flush=True)
    """)
    with shaken.api.open_stream(code, timeout_ms=30_000) as events:
        wait_for_print(events, "begun\n")
        container_id = container_with(shaken, mark)
        wait_for_print(events, "written\n")
        kill(shaken, victim, container_id)
        *_, last = events
    if last.type == "result":
        contents = shaken.api.returned(last.data)
        assert all(data == bytes([int(path.split(".")[0])]) * 300_000 for path, data in contents.items())
        assert len(contents) + len(last.data["skipped_files"]) in (0, 40), last.data["error"]
    else:
        assert last.type == "error" and last.data["message"]
    canary(shaken)


def test_while_a_file_is_staged(shaken: Service, victim: str) -> None:
    """The upload is refused, or done; never half a file that counts as one."""
    with new_session(shaken) as session:
        container_id = container_of(session)

        def content() -> Iterator[bytes]:
            for i in range(20):
                yield b"x" * 100_000
                if i == 10:
                    kill(shaken, victim, container_id)
                time.sleep(0.02)

        response = session.file("PUT", "big.bin", content=content())
        if victim == "kernel":
            assert response.status_code == 201
            assert session.read("big.bin") == b"x" * 2_000_000
        else:
            assert problem(response)["code"] in ("kernel_failed", "session_ended"), response.text
    canary(shaken)


def test_while_a_session_is_idle(shaken: Service, victim: str) -> None:
    """A kernel is replaced and the files are kept; what is more than that is 410 `lost`."""
    with new_session(shaken) as session:
        (file,) = session.run("marker = 1\nwith open('kept.txt', 'w') as f: _ = f.write('kept')")["files"]
        kill(shaken, victim, container_of(session))
        check_session_after(session, victim, "kept.txt")
        canary(shaken, {file["file_id"]: b"kept"})


def test_while_a_session_runs(shaken: Service, victim: str) -> None:
    """The running call is answered, and so is the next, which finds the files or is told why not."""
    with new_session(shaken) as session:
        session.run("with open('kept.txt', 'w') as f: _ = f.write('kept')")
        container_id = container_of(session)
        answers: list[httpx.Response] = []
        caller = threading.Thread(
            target=lambda: answers.append(session.execute("import time; time.sleep(25)", timeout_ms=30_000))
        )
        caller.start()
        while session.describe()["state"] != "busy":
            time.sleep(0.02)
        time.sleep(0.2)
        kill(shaken, victim, container_id)
        caller.join(ANSWER_SECONDS)
        assert answers, "the caller still waits"
        check_ended(answers[0])
        check_session_after(session, victim, "kept.txt", told=True)
    canary(shaken)


def check_session_after(
    session: Session, victim: str, kept: str | None = None, *, told: bool = False
) -> None:
    """With a new kernel the session goes on, which is said once; without its container it is lost."""
    if victim != "kernel":
        assert session.wait_until_ended()["reason"] == "lost"
        return
    result = session.run("print('marker' in globals())")
    check_session_result(result)
    assert result["stdout"] == "False\n"
    assert result["state"] == ("kept" if told else "restarted")
    if kept is not None:
        assert session.read(kept) == b"kept"
