"""What comes in, piece by piece: events, answers, paths, text for a terminal. No service."""

import dataclasses
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from pydantic import BaseModel

from code_interpreter_client import (
    BadAnswer,
    ExecutionLost,
    InputRequest,
    Printed,
    Result,
    Shown,
    models,
    wire,
)
from code_interpreter_client.cli.source import indent_after, is_complete
from code_interpreter_client.cli.terminal import TerminalText, one_line
from code_interpreter_client.event_stream import EventReader
from code_interpreter_client.places import place_beneath
from service.routes.schemas import execute as execute_schemas
from service.routes.schemas import files as file_schemas
from service.routes.schemas import health as health_schemas
from service.routes.schemas import sessions as session_schemas
from service.routes.schemas import stream as stream_schemas

STREAM = (
    'event: output\ndata: {"stream": "stdout", "data": "gr\\u00fcn\\n"}\n\n'
    ": keep-alive\n\n"
    'event: display\r\ndata: {"output_type": "display_data",\r\n'
    'data: "data": {"text/plain": "é"}, "metadata": {}}\r\n\r\n'
    'event: news\ndata: {"of": "a later version"}\n\n'
    'event:input_request\ndata:{"prompt": "? ", "password": true}\n\n'
    'event: result\ndata: {"exit_code": 0, "timed_out": false, "duration_ms": 5, "files": []}\n\n'
).encode()


# Events -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_events_are_read_however_they_are_cut(size: int) -> None:
    """In pieces of any size, with either line end; comments and unknown events are passed over."""
    reader = EventReader()
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    events = [event for piece in pieces for event in reader.read(piece)]
    assert events == [
        Printed("stdout", "grün\n"),
        Shown("display_data", {"text/plain": "é"}, {}),
        InputRequest("? ", password=True),
        Result(0, False, 5, stdout="grün\n"),
    ]
    assert reader.result is events[-1]


def test_the_end_of_a_lost_execution_is_an_error() -> None:
    """An `error` event is raised, and so is what is no event."""
    with pytest.raises(ExecutionLost, match="gone"):
        list(EventReader().read(b'event: error\ndata: {"message": "the container is gone"}\n\n'))
    for broken in (b"{", b"[]", b'{"stream": "stdout"}', b'{"stream": 1, "data": "x"}'):
        with pytest.raises(BadAnswer):
            list(EventReader().read(b"event: output\ndata: " + broken + b"\n\n"))


# Answers ------------------------------------------------------------------------------------------


def test_what_a_newer_service_adds_is_passed_over() -> None:
    """Unknown fields, also inside, and words that are not known yet."""
    body = {
        "exit_code": 0,
        "timed_out": False,
        "duration_ms": 1,
        "state": "archived",
        "energy_joules": 3,
        "files": [{"path": "a", "file_id": "f", "size_bytes": 1, "kind": "file", "colour": "red"}],
    }
    result = wire.read(Result, body)
    assert (result.files[0].path, result.state) == ("a", "archived")


@pytest.mark.parametrize(
    "change",
    [{"exit_code": "0"}, {"timed_out": 0}, {"files": {}}, {"files": [1]}, {"stdout": None}, {"error": []}],
    ids=str,
)
def test_a_field_of_another_type_is_no_answer(change: dict[str, object]) -> None:
    """Rather than an AttributeError somewhere later."""
    with pytest.raises(BadAnswer):
        wire.read(Result, {"exit_code": 0, "timed_out": False, "duration_ms": 1} | change)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (models.Result, execute_schemas.ExecuteResponse),
        (models.ResultFile, execute_schemas.WorkspaceFile),
        (models.SkippedFile, execute_schemas.SkippedFile),
        (models.ExecutionError, execute_schemas.ExecutionError),
        (models.StoredFile, file_schemas.StoredFileInfo),
        (models.FileList, file_schemas.FileList),
        (models.Health, health_schemas.Health),
        (models.Printed, stream_schemas.Printed),
        (models.Shown, stream_schemas.Shown),
        (models.InputRequest, stream_schemas.Asked),
        (models.SessionInfo, session_schemas.SessionInfo),
        (models.CommandResult, session_schemas.BashResponse),
        (models.Started, session_schemas.Detached),
        (models.Cell, session_schemas.CellInfo),
        (models.Completion, session_schemas.CompleteResponse),
        (models.Inspection, session_schemas.InspectResponse),
        (models.WorkspaceFile, session_schemas.WorkspaceFileInfo),
    ],
    ids=lambda kind: kind.__name__,
)
def test_the_client_has_every_field_of_the_service(ours: type, theirs: type[BaseModel]) -> None:
    """By the same name, but for what says nothing."""
    assert dataclasses.is_dataclass(ours)
    names = {field.metadata.get("wire", field.name) for field in dataclasses.fields(ours)}
    assert names == theirs.model_fields.keys() - ({"kind"} if ours is models.ResultFile else set())


def test_the_client_stands_alone() -> None:
    """It imports nothing of the service, needs httpx only, and says what the command line lacks."""
    program = (
        "import sys, code_interpreter_client, code_interpreter_client.cli.app\n"
        "mine = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(mine & {'service', 'sessions', 'kernel_image', 'tests', 'PIL', 'pydantic', 'fastapi'}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "[]\n"
    wanted = requires("code-interpreter-client") or []
    assert [name for name in wanted if "extra ==" not in name] == ["httpx>=0.27"]


def test_without_the_extra_the_command_says_what_to_install() -> None:
    """One sentence, no traceback; the library itself imports."""
    program = (
        "import sys; sys.modules['click'] = None\nimport code_interpreter_client.__main__ as m\n"
        "sys.argv = ['code-interpreter']; m.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.strip().endswith("pip install 'code-interpreter-client[cli]'")
    assert len(ended.stderr.strip().splitlines()) == 1


# Places -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "C:\\x", "C:x", "\\x", "..\\x", "link/x", "link"],
)
def test_files_are_not_put_outside_their_folder(tmp_path: Path, path: str) -> None:
    """Whatever the code has called them."""
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leads out"):
        place_beneath(tmp_path / "out", path)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_files_are_put_where_they_say(tmp_path: Path) -> None:
    """Folders are made; odd names are names."""
    assert place_beneath(tmp_path / "new", "a/b/..c") == tmp_path / "new/a/b/..c"
    assert (tmp_path / "new/a/b").is_dir()


# The terminal -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\r\n", "plain\ttext\r\n"),
        ("\x1b[1;31mred\x1b[0m \x1b[2K", "\x1b[1;31mred\x1b[0m \x1b[2K"),
        ("a\x1b]52;c;aGk=\x07b", "ab"),
        ("a\x1b]0;title\x1b\\b", "ab"),
        ("a\x1b[2J\x1b[H\x1b[10Ab", "ab"),
        ("a\x1bPq#0\x1b\\b", "ab"),
        ("a\x1bcb\x1b(0c", "abc"),
        ("a\x1b[12\nb\x1b]0;x\nc\x1bü", "a[12\nb]0;x\ncü"),
        ("a\x9b31mb\x07\x00", "a\ufffd31mb\ufffd\ufffd"),
    ],
)
def test_a_terminal_gets_colours_and_nothing_it_obeys(text: str, shown: str) -> None:
    """Whole, and letter by letter."""
    assert TerminalText().clean(text) == shown
    cleaner = TerminalText()
    assert "".join(cleaner.clean(letter) for letter in text) == shown


def test_a_sequence_without_end_is_not_kept_for_ever() -> None:
    """What follows it comes, at the latest after some thousand characters."""
    cleaner = TerminalText()
    assert cleaner.clean("a\x1b]0;") == "a"
    assert cleaner.clean("x" * 10_000).startswith("]0;x")
    assert cleaner.clean("b") == "b"
    assert one_line("a\nb\x1b[2Jc") == "a\ufffdb\ufffd[2Jc"


@pytest.mark.parametrize(
    ("code", "complete"),
    [
        ("1", True),
        ("x = (", False),
        ("for i in 'ab':", False),
        ("for i in 'ab':\n    print(i)", False),
        ("for i in 'ab':\n    print(i)\n", True),
        ("for i in 'ab':\n    print(i)\n    ", True),
        ("import os\nfor i in x:", False),
        ("await f()", True),
        ("'''abc", False),
        ("x = = 1", True),
        ("@d", False),
        ("%time 1", True),
        ("%matplotlib inline\nif 1:", False),
        ("!ls", True),
        ("%%bash", False),
        ("%%bash\nls", False),
        ("%%bash\nls\n", True),
        ("x = 1\\", False),
    ],
)
def test_a_cell_ends_where_python_ends_it(code: str, complete: bool) -> None:
    """An open bracket, block or string goes on; what can't become Python is for the kernel to refuse."""
    assert is_complete(code) is complete


def test_the_next_line_is_indented_as_the_code_wants_it() -> None:
    """Deeper after a colon, back after a `return`."""
    assert indent_after("def f(x):") == "    "
    assert indent_after("    if x:") == "        "
    assert indent_after("        return x") == "    "
    assert indent_after("    x = 1") == "    "
