"""Tests that kill a container, supervisor, zygote or kernel at each stage of a call and a session."""

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
"""Seconds within which a call whose container dies gets its response."""

MARK = "sleep 123.{:06d}"
RUNNING = "import os\nif os.fork() == 0: os.execlp('sleep', *'{mark}'.split())\n"


def kill(service: Service, victim: str, container_id: str) -> None:
    """Remove the container, or send SIGKILL to the process from outside."""
    if victim == "container":
        service.engine.remove(container_id)
    else:
        pid = processes(service.engine, container_id)[victim]
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.01)
        time.sleep(0.1)  # its parent needs a moment to notice


def container_with(service: Service, mark: str) -> str:
    """Wait until a command with these words runs in a container, and return the container's id."""
    return command_in_container(service, mark)[0]


def command_in_container(service: Service, mark: str) -> tuple[str, int]:
    """Wait until a command with these words runs in a container. Return the ids of container and process."""
    expected = mark.replace(" ", "\0").encode()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for container in service.engine.inspected(service.instance_id):
            for pid in descendants(int(container["State"]["Pid"])):
                if expected in _command(pid):
                    return str(container["Id"]), pid
        time.sleep(0.05)
    raise AssertionError(f"{mark} runs nowhere")


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def check_ended(response: httpx.Response) -> None:
    """Check that the response reports that the container or kernel was killed."""
    if response.status_code == 200:
        result = response.json()
        check_result(result)
        assert result["error"] is not None and result["exit_code"] != 0, result
    else:
        assert problem(response)["code"] in ("kernel_failed", "session_ended"), response.text


def test_a_kill_in_the_pool_does_not_affect_calls(shaken: Service, victim: str) -> None:
    """The next call works, if necessary in another container, and the pool fills up again."""
    file_id = shaken.api.upload(b"kept")
    for container_id in shaken.settle(at_target=False):
        kill(shaken, victim, container_id)
    canary(shaken, {file_id: b"kept"})
    shaken.settle(at_target=False)


def test_a_kill_during_a_call_is_reported(shaken: Service, victim: str) -> None:
    """The caller gets the error at once, not at the timeout."""
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


def test_a_kill_during_a_stream_is_reported(shaken: Service, victim: str) -> None:
    """The output so far has arrived, and the last event says how the execution ended."""
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


def test_a_kill_during_collection_stores_only_whole_files(shaken: Service, victim: str) -> None:
    """Each file that the response names is stored completely. The others are listed as skipped."""
    mark = MARK.format(time.monotonic_ns() % 1_000_000)
    code = "import os\ncommand = os.fork()\n" + dedent(f"""
        if command == 0: os.execlp("sleep", *{mark.split()})
        os.waitpid(command, 0)
        for i in range(40):
            with open(f"{{i}}.bin", "wb") as file: _ = file.write(bytes([i]) * 300_000)
        print("written", flush=True)
    """)
    with shaken.api.open_stream(code, timeout_ms=30_000) as events:
        # The program goes on when its command ends.
        container_id, command = command_in_container(shaken, mark)
        os.kill(command, signal.SIGKILL)
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


def test_a_kill_during_an_upload_leaves_no_partial_file(shaken: Service, victim: str) -> None:
    """The upload fails or is complete. A partial file is never listed."""
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


def test_a_kill_in_an_idle_session_is_reported(shaken: Service, victim: str) -> None:
    """A killed kernel is replaced and files are kept. After any other kill the session is 410 `lost`."""
    with new_session(shaken) as session:
        (file,) = session.run("marker = 1\nwith open('kept.txt', 'w') as f: _ = f.write('kept')")["files"]
        kill(shaken, victim, container_of(session))
        check_session_after(session, victim, "kept.txt")
        canary(shaken, {file["file_id"]: b"kept"})


def test_a_kill_in_a_running_session_is_reported(shaken: Service, victim: str) -> None:
    """The running call gets a response. The next one finds the files or gets the reason."""
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
        check_session_after(session, victim, "kept.txt", is_kept=True)
    canary(shaken)


def check_session_after(
    session: Session, victim: str, kept: str | None = None, *, is_kept: bool = False
) -> None:
    """Check that the session has a new kernel and reports it once, or that it is lost with its container."""
    if victim != "kernel":
        assert session.wait_until_ended()["reason"] == "lost"
        return
    result = session.run("print('marker' in globals())")
    check_session_result(result)
    assert result["stdout"] == "False\n"
    assert result["state"] == ("kept" if is_kept else "restarted")
    if kept is not None:
        assert session.read(kept) == b"kept"
