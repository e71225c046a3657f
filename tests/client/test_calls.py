"""The calls of the client, each with the blocking and the asynchronous client."""

import asyncio
import inspect
import threading
import time
from pathlib import Path

import pytest

from code_interpreter_client import (
    AsyncClient,
    AsyncSession,
    CellNotFound,
    Cleared,
    Client,
    CodeFailed,
    Event,
    FileNotFound,
    InputRequest,
    InvalidRequest,
    Printed,
    Result,
    Session,
    SessionEnded,
    Shown,
)
from code_interpreter_client.calls import files
from tests.client.blocking import Blocking
from tests.support.process import Service

SECONDS = 20.0
"""Timeout of code in tests that are not about timeouts."""


def shown_files(client: Client) -> set[str]:
    """Return the names of all stored files."""
    return {file.filename for file in client.list_files()}


# Executions ---------------------------------------------------------------------------------------


def test_result_has_text_outputs_and_files(client: Client, tmp_path: Path) -> None:
    """The files of a result can be read, saved and deleted."""
    result = client.run(
        "import pathlib\nprint('hello')\npathlib.Path('deep/er').mkdir(parents=True)\n"
        "pathlib.Path('deep/er/ü 1.txt').write_text('grün')\n{'answer': 42}",
        timeout=SECONDS,
    )
    assert result.ok
    assert result.check() is result
    assert (result.stdout, result.stderr, result.exit_code) == ("hello\n{'answer': 42}\n", "", 0)
    assert [(output.output_type, output.text) for output in result.outputs] == [
        ("stream", "hello\n"),
        ("execute_result", "{'answer': 42}"),
    ]
    assert [file.path for file in result.files] == ["deep/er/ü 1.txt"]
    assert client.read_file(result.files[0]).decode() == "grün"
    saved = client.save_files(result, tmp_path / "out")
    assert saved == [tmp_path / "out" / "deep/er/ü 1.txt"]
    assert saved[0].read_text() == "grün"
    client.delete_file(result.files[0])
    with pytest.raises(FileNotFound):
        client.read_file(result.files[0].file_id)


def test_failure_of_the_code_is_a_result_and_not_an_exception(client: Client) -> None:
    """This holds for exceptions, exit statuses and timeouts. `check` raises `CodeFailed`."""
    failed = client.run("1 / 0", timeout=SECONDS)
    assert failed.error is not None
    assert (failed.ok, failed.exit_code, failed.error.name) == (False, 1, "ZeroDivisionError")
    with pytest.raises(CodeFailed, match=r"^ZeroDivisionError: division by zero$") as caught:
        failed.check()
    assert caught.value.result is failed
    assert client.run("import sys; sys.exit(3)", timeout=SECONDS).failure != ""
    result = client.run("import time; print('began', flush=True); time.sleep(30)", timeout=2)
    assert (result.timed_out, result.exit_code, result.ok, result.stdout) == (True, None, False, "began\n")


def test_code_reads_stdin_and_can_hide_its_last_value(client: Client) -> None:
    """`stdin` is the text of standard input; `show_last_line=False` hides the value."""
    result = client.run("print(input() * 2)\n40 + 2", stdin="ab\n", show_last_line=False, timeout=SECONDS)
    assert (result.stdout, result.displays) == ("abab\n", [])


def test_inputs_are_bytes_local_files_or_stored_files(client: Client, tmp_path: Path) -> None:
    """Files that are uploaded for one call are deleted after it, also if it fails."""
    local = tmp_path / "local-only.txt"
    local.write_bytes(b"from disk")
    stored = client.upload(b"from the store", name="kept.txt")
    result = client.run(
        "for name in ('a/memory.txt', 'disk.txt', 'store.txt', 'id.txt'): print(open(name).read())",
        files={
            "a/memory.txt": b"from memory",
            "disk.txt": local,
            "store.txt": stored,
            "id.txt": stored.file_id,
        },
        timeout=SECONDS,
    )
    assert result.stdout == "from memory\nfrom disk\nfrom the store\nfrom the store\n"
    names = shown_files(client)
    assert "kept.txt" in names
    assert not names & {"memory.txt", "disk.txt", "local-only.txt"}
    with pytest.raises(FileNotFound, match=r"store\.txt"):
        client.run("1", files={"store.txt": "no-such-id", "gone.txt": b"x"})
    assert "gone.txt" not in shown_files(client)


def test_stream_yields_events_while_the_code_runs(client: Client) -> None:
    """The code waits for a file that the test uploads when it has received the first lines."""
    waiting = (
        "import os, sys, time\nprint('first')\nprint('second', file=sys.stderr)\n"
        "while not os.path.exists('go'): time.sleep(0.02)\nprint('third')\ndisplay(5)"
    )
    events: list[Event] = []
    with client.session() as session, session.stream(waiting, timeout=SECONDS) as stream:
        for event in stream:
            events.append(event)
            if isinstance(event, Printed) and event.stream == "stderr":
                assert stream.result is None
                session.upload("go", b"")
    result = stream.result
    assert isinstance(result, Result)
    assert (result.stdout, result.stderr) == ("first\nthird\n", "second\n")
    # How the text is divided into events depends on the machine's pace.
    printed = [event for event in events if isinstance(event, Printed)]
    for name, text in (("stdout", result.stdout), ("stderr", result.stderr)):
        assert "".join(event.text for event in printed if event.stream == name) == text
    assert [type(event) for event in events if not isinstance(event, Printed)] == [Shown, Result]
    assert events[-1] is result


def test_one_shot_stream_ends_with_its_result(client: Client) -> None:
    """Without `with`, the iteration starts the execution. Displays have their type, updates their id."""
    code = "h = display(1, display_id='one')\nh.update(2)\nprint(open('in.txt').read())"
    events = list(client.stream(code, files={"in.txt": b"x"}, timeout=SECONDS))
    shown = [event for event in events if isinstance(event, Shown)]
    assert [(event.output_type, event.display_id, event.text) for event in shown] == [
        ("display_data", "one", "1"),
        ("update_display_data", "one", "2"),
    ]
    assert isinstance(events[-1], Result)
    assert (events[-1].stdout, events[-1].ok) == ("x\n", True)
    assert "in.txt" not in shown_files(client)


def test_leaving_a_stream_early_interrupts_the_code(client: Client) -> None:
    """In a session the variables stay."""
    with client.session() as session:
        with session.stream("import time; kept = 1; print(1); time.sleep(60)", timeout=25) as stream:
            for event in stream:
                if isinstance(event, Printed):
                    break
        assert session.run("kept", timeout=SECONDS).stdout == "1\n"
        left = session.cells()[0].result
        assert left is not None
        assert left.error is not None
        assert left.error.name == "KeyboardInterrupt"


def test_input_requests_are_answered(client: Client) -> None:
    """`input()` and `getpass` yield requests, and return the answers."""
    code = "import getpass\nprint(input('name? '), getpass.getpass('word? '))"
    prompts = []
    with client.session() as session:
        for event in session.stream(code, timeout=SECONDS):
            if isinstance(event, InputRequest):
                prompts.append((event.prompt, event.password))
                session.answer("Ada" if not event.password else "secret")
            if isinstance(event, Result):
                assert event.stdout == "Ada secret\n"
        assert session.run("input()", timeout=SECONDS).error is not None
    assert prompts == [("name? ", False), ("word? ", True)]


# Sessions -----------------------------------------------------------------------------------------


def test_session_keeps_variables_and_describes_itself(client: Client) -> None:
    """Files, cells, notebook, shell commands, completion and extension work; `with` ends the session."""
    with client.session(ttl=300, files={"data.csv": b"a,b\n1,2\n"}) as session:
        session.run("rows = open('data.csv').read().split()", timeout=SECONDS)
        assert session.run("rows[1]", timeout=SECONDS).stdout == "'1,2'\n"
        assert session.bash("wc -l < data.csv; exit 3", timeout=SECONDS).exit_code == 3
        assert session.complete("row").matches == ("rows",)
        assert list(session.complete("row + 1", 3)) == ["rows"]
        assert "number of items" in session.inspect("len").text
        assert [cell.code for cell in session.cells()][1] == "rows[1]"
        cell = session.cells()[1]
        assert session.cell(cell.cell_id).result == cell.result
        assert cell.result is not None
        assert cell.result.stdout == "'1,2'\n"
        assert session.notebook()["nbformat"] == 4
        before = session.describe()
        assert session.extend(900).expires_at > before.expires_at
        assert session.session_id in [listed.session_id for listed in client.list_sessions()]
        assert session.restart().execution_count == 0
        assert session.run("rows", timeout=SECONDS).error is not None
        with pytest.raises(CellNotFound):
            session.cell("0" * 32)
    with pytest.raises(SessionEnded) as ended:
        session.run("1")
    assert ended.value.reason == "deleted"
    assert ended.value.ended_at == pytest.approx(time.time(), abs=60)


def test_attached_session_stays_open(client: Client) -> None:
    """`with` ends only a session that it opened. Deleting a session before `with` does is not an error."""
    with client.session() as session:
        with client.attach(session.session_id) as attached:
            attached.run("x = 5", timeout=SECONDS)
        assert session.run("x", timeout=SECONDS).stdout == "5\n"
        session.delete()


def test_started_cell_runs_without_a_caller(client: Client) -> None:
    """Its result can be read after it has ended, and it can be interrupted."""
    with client.session() as session:
        started = session.start("import time\nopen('started', 'w')\ntime.sleep(25)", timeout=28)
        while not session.list_files():
            time.sleep(0.05)
        assert session.describe().state == "busy"
        assert session.cell(started.cell_id).state == "running"
        session.interrupt()
        deadline = time.monotonic() + SECONDS
        while (cell := session.cell(started.cell_id)).state == "running":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert cell.result is not None
        assert cell.result.error is not None
        assert cell.result.error.name == "KeyboardInterrupt"


@pytest.mark.parametrize("path", ["plain.bin", "folder/ü ?#%2F[1].bin", "line\nend.bin", "..hidden"])
def test_workspace_files_are_uploaded_and_downloaded(client: Client, tmp_path: Path, path: str) -> None:
    """Sources are memory, disk and open files. Names may have any characters. Rename and delete work."""
    content = bytes(range(256)) * 2000
    local = tmp_path / "local.bin"
    local.write_bytes(content)
    with client.session() as session:
        assert session.upload(path, local).size_bytes == len(content)
        assert [file.path for file in session.list_files()] == [path]
        assert session.read_file(path) == content
        reports: list[tuple[int, int | None]] = []
        copy = session.download_file(
            path, tmp_path / "copy.bin", progress=lambda done, total: reports.append((done, total))
        )
        assert copy.read_bytes() == content
        assert reports[-1][0] == len(content)
        with local.open("rb") as file:
            file.seek(len(content) - 10)
            session.upload(path, file)
        assert session.read_file(path) == content[-10:]
        session.rename_file(path, "new name")
        session.delete_file("new name")
        assert session.list_files() == []
        with pytest.raises(FileNotFound):
            session.download_file(path, tmp_path / "none.bin")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy.bin", "local.bin"]


def test_path_that_leaves_the_workspace_is_refused(client: Client) -> None:
    """The client sends the path unchanged, and the service refuses it."""
    with client.session() as session:
        for path in ("../x", "a/../../x", ".."):
            with pytest.raises(InvalidRequest):
                session.upload(path, b"x")
        assert session.list_files() == []


# Stored files -------------------------------------------------------------------------------------


def test_stored_files_are_uploaded_listed_and_downloaded(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open file is sent from its position. The list has several pages."""
    monkeypatch.setattr(files, "_PAGE", 2)
    local = tmp_path / "large.bin"
    local.write_bytes(b"0123456789" * 300_000)
    stored = client.upload(local)
    assert (stored.filename, stored.size_bytes) == ("large.bin", 3_000_000)
    with local.open("rb") as file:
        file.seek(2_999_995)
        rest = client.upload(file, name="rest.bin")
    assert client.read_file(rest) == b"56789"
    others = [client.upload(str(number).encode(), name=f"page-{number}.txt") for number in range(3)]
    listed = [file.file_id for file in client.list_files()]
    assert [file_id for file_id in listed if file_id in {file.file_id for file in others}] == [
        file.file_id for file in others
    ]
    reports: list[tuple[int, int | None]] = []
    client.download_file(
        stored, tmp_path / "copy.bin", progress=lambda done, total: reports.append((done, total))
    )
    assert (tmp_path / "copy.bin").read_bytes() == local.read_bytes()
    assert reports[-1] == (3_000_000, 3_000_000)
    assert reports[0][0] < 3_000_000
    for one in (stored, rest, *others):
        client.delete_file(one)


def test_failed_download_leaves_the_target_unchanged(client: Client, tmp_path: Path) -> None:
    """Errors of the service or of the disk do not change a file, and leave no part of one."""
    target = tmp_path / "there.txt"
    target.write_text("mine")
    with pytest.raises(FileNotFound):
        client.download_file("no-such-id", target)
    assert target.read_text() == "mine"
    stored = client.upload(b"x")
    with pytest.raises(OSError, match="no-such-folder"):
        client.download_file(stored, tmp_path / "no-such-folder" / "x")
    assert [file.name for file in tmp_path.iterdir()] == ["there.txt"]


# Both clients -------------------------------------------------------------------------------------


def test_both_clients_have_the_same_calls() -> None:
    """The calls have the same arguments and docstrings."""
    for blocking, asynchronous in ((Client, AsyncClient), (Session, AsyncSession)):
        names = {name for name in vars(blocking) if not name.startswith("_")}
        assert names == {name for name in vars(asynchronous) if not name.startswith("_")}
        for name in names - {"perform", "session", "url", "attach"}:
            one, other = getattr(blocking, name), getattr(asynchronous, name)
            assert one.__doc__
            assert one.__doc__ == other.__doc__, name
            arguments = [list(inspect.signature(face).parameters.values()) for face in (one, other)]
            assert arguments[0] == arguments[1], name


def test_method_has_the_signature_of_its_call(client: Client, service: Service) -> None:
    """`help` and editors show the call's arguments."""
    if isinstance(client, Blocking):
        client = AsyncClient(service.base_url)  # type: ignore[assignment]
    assert list(inspect.signature(client.run).parameters)[:2] == ["code", "files"]
    assert list(inspect.signature(Session.run).parameters)[:3] == ["self", "code", "files"]


async def test_async_client_makes_calls_at_the_same_time(service: Service) -> None:
    """While one call waits for code, the same client uploads the file that the code waits for."""
    async with AsyncClient(service.base_url) as client:
        session = await client.session()
        waiting = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.02)\nprint('gone')"
        running = asyncio.create_task(session.run(waiting, timeout=SECONDS))
        while (await session.describe()).state != "busy":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await session.upload("go", b"")
        assert (await running).stdout == "gone\n"
        await session.delete()


def test_threads_can_share_a_client(service: Service) -> None:
    """One thread waits for a cell, and another interrupts it."""
    with Client(service.base_url) as client, client.session() as session:
        results: list[Result] = []
        thread = threading.Thread(
            target=lambda: results.append(
                session.run("open('started', 'w')\nimport time; time.sleep(25)", timeout=28)
            )
        )
        thread.start()
        while not session.list_files():
            time.sleep(0.02)
        session.interrupt()
        thread.join(SECONDS)
        assert results[0].error is not None
        assert results[0].error.name == "KeyboardInterrupt"


def test_text_and_displays_are_in_the_order_they_were_made(client: Client) -> None:
    """In the answer, in the result of a stream, and in the history of a session."""
    code = "print('a', end=''); display('x'); print('b'); display('y'); print('c'); 6 * 7"
    expected = ["a", "'x'", "b\n", "'y'", "c\n", "42"]
    assert [output.text for output in client.run(code).outputs] == expected
    with client.session() as session:
        with session.stream(code) as events:
            shown = list(events)
        assert [output.text for output in shown[-1].outputs] == expected  # type: ignore[union-attr]
        [cell] = session.cells()
        assert cell.result is not None
        assert [output.text for output in cell.result.outputs] == expected
        assert [output.text for output in cell.result.displays] == ["'x'", "'y'", "42"]
        assert cell.result.stdout == "ab\nc\n42\n"
        with session.stream("from IPython.display import clear_output\nclear_output(wait=True)") as events:
            assert Cleared(wait=True) in list(events)
