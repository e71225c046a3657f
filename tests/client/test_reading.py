"""How the client reads events, answers, paths, and text for a terminal. No service runs."""

import dataclasses
import subprocess
import sys
import tomllib
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from pydantic import BaseModel

from code_interpreter_client import (
    BadAnswer,
    Cell,
    CommandResult,
    Completion,
    ExecutionError,
    ExecutionLost,
    Health,
    InputRequest,
    Inspection,
    Printed,
    Result,
    ResultFile,
    SessionInfo,
    Shown,
    SkippedFile,
    Started,
    StoredFile,
    WorkspaceFile,
)
from code_interpreter_client.cli.source import indent_after, is_complete
from code_interpreter_client.cli.terminal import TerminalText, one_line
from code_interpreter_client.http import wire
from code_interpreter_client.local_paths import path_beneath
from code_interpreter_client.models.files import FileList
from service.routes.schemas import assistance as assistance_schemas
from service.routes.schemas import cells as cell_schemas
from service.routes.schemas import execute as execute_schemas
from service.routes.schemas import files as file_schemas
from service.routes.schemas import health as health_schemas
from service.routes.schemas import session_calls as call_schemas
from service.routes.schemas import sessions as session_schemas
from service.routes.schemas import stream as stream_schemas
from service.routes.schemas import workspace_files as workspace_schemas
from tests.client.conftest import MakeClient
from tests.client.odd_server import OddServer, Respond
from tests.support.process import ROOT

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


def event_stream(*pieces: bytes, content_type: str = "text/event-stream") -> Respond:
    """Answer with a stream in these pieces; httpx reads each as a piece of its own."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        with suppress(ConnectionError):  # the client closes the connection after an invalid event
            for piece in (*pieces, b""):
                handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    return respond


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_events_are_the_same_however_the_stream_is_cut(
    make_client: MakeClient, odd_server: OddServer, size: int
) -> None:
    """Pieces have any size, lines end in LF or CR LF, and comments and unknown events are ignored."""
    odd_server.script = [event_stream(*(STREAM[at : at + size] for at in range(0, len(STREAM), size)))]
    stream = make_client(odd_server.url).stream("1")
    events = list(stream)
    assert events == [
        Printed("stdout", "grün\n"),
        Shown("display_data", {"text/plain": "é"}, {}),
        InputRequest("? ", password=True),
        Result(0, False, 5, stdout="grün\n"),
    ]
    assert stream.result is events[-1]


def test_error_event_raises_execution_lost(make_client: MakeClient, odd_server: OddServer) -> None:
    """The message of the service is the text of the error."""
    odd_server.script = [event_stream(b'event: error\ndata: {"message": "the container is gone"}\n\n')]
    with pytest.raises(ExecutionLost, match=r"^the container is gone$"):
        list(make_client(odd_server.url).stream("1"))


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b'{"stream": "stdout"}', b'{"stream": 1, "data": "x"}'], ids=repr
)
def test_invalid_event_raises_bad_answer(make_client: MakeClient, odd_server: OddServer, data: bytes) -> None:
    """Data that is not JSON, not an object, or lacks a field is not passed on."""
    odd_server.script = [event_stream(b"event: output\ndata: " + data + b"\n\n")]
    with pytest.raises(BadAnswer):
        list(make_client(odd_server.url).stream("1"))


def test_answer_that_is_not_a_stream_raises_bad_answer(
    make_client: MakeClient, odd_server: OddServer
) -> None:
    """A web page, as a proxy may send it, is not taken for a stream that broke."""
    odd_server.script = [event_stream(b"<html>", content_type="text/html")]
    with pytest.raises(BadAnswer, match="text/html"):
        list(make_client(odd_server.url).stream("1"))


# Answers ------------------------------------------------------------------------------------------


def test_unknown_fields_of_a_newer_service_are_ignored() -> None:
    """This holds for nested fields, and for unknown values of `state`."""
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
def test_field_of_the_wrong_type_raises_bad_answer(change: dict[str, object]) -> None:
    """Otherwise the caller would get an AttributeError later."""
    with pytest.raises(BadAnswer):
        wire.read(Result, {"exit_code": 0, "timed_out": False, "duration_ms": 1} | change)


@pytest.mark.parametrize(
    ("model", "schema"),
    [
        (Result, execute_schemas.ExecuteResponse),
        (ResultFile, execute_schemas.WorkspaceFile),
        (SkippedFile, execute_schemas.SkippedFile),
        (ExecutionError, execute_schemas.ExecutionError),
        (StoredFile, file_schemas.StoredFileInfo),
        (FileList, file_schemas.FileList),
        (Health, health_schemas.Health),
        (Printed, stream_schemas.Printed),
        (Shown, stream_schemas.Shown),
        (InputRequest, stream_schemas.Asked),
        (SessionInfo, session_schemas.SessionInfo),
        (CommandResult, call_schemas.BashResponse),
        (Started, call_schemas.Detached),
        (Cell, cell_schemas.CellInfo),
        (Completion, assistance_schemas.CompleteResponse),
        (Inspection, assistance_schemas.InspectResponse),
        (WorkspaceFile, workspace_schemas.WorkspaceFileInfo),
    ],
    ids=lambda kind: kind.__name__,
)
def test_client_has_every_field_of_the_service(model: type, schema: type[BaseModel]) -> None:
    """Fields have the same names. `kind` is left out, because it always has the same value."""
    assert dataclasses.is_dataclass(model)
    names = {field.metadata.get("wire", field.name) for field in dataclasses.fields(model)}
    if model is Shown:
        names -= {"name", "text"}  # of an output that is text
    assert names == schema.model_fields.keys() - ({"kind"} if model is ResultFile else set())


def test_client_needs_nothing_of_the_service() -> None:
    """The library declares httpx and httpx-sse, and imports no package of the service."""
    program = (
        "import sys, code_interpreter_client, code_interpreter_client.cli.app\n"
        "mine = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(mine & {'service', 'sessions', 'kernel_image', 'tests', 'PIL', 'pydantic', 'aiohttp', "
        "'fastapi', 'mcp'}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "[]\n"
    project = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == ["httpx>=0.27", "httpx-sse>=0.4"]


def test_command_without_its_extra_says_what_to_install() -> None:
    """The command prints one sentence and no traceback; the library can be imported."""
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


# Local paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "C:\\x", "C:x", "\\x", "..\\x", "link/x", "link"],
)
def test_path_that_leaves_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    """Untrusted code may give its files any path."""
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leads out"):
        path_beneath(tmp_path / "out", path)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_path_beneath_a_folder_is_created(tmp_path: Path) -> None:
    """Folders on the way are created; unusual names are allowed."""
    assert path_beneath(tmp_path / "new", "a/b/..c") == tmp_path / "new/a/b/..c"
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
def test_control_sequences_other_than_colours_are_removed(text: str, shown: str) -> None:
    """The result is the same for the whole text and for single characters."""
    assert TerminalText().clean(text) == shown
    cleaner = TerminalText()
    assert "".join(cleaner.clean(letter) for letter in text) == shown


def test_unfinished_control_sequence_is_not_kept_forever() -> None:
    """After some thousand characters, the text that follows is shown."""
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
def test_cell_is_complete_when_python_is(code: str, complete: bool) -> None:
    """Open brackets, blocks and strings are incomplete. Invalid code is complete; the kernel reports it."""
    assert is_complete(code) is complete


def test_next_line_is_indented_after_a_block_begins() -> None:
    """A colon indents, and a `return` dedents."""

    assert indent_after("def f(x):") == "    "
    assert indent_after("    if x:") == "        "
    assert indent_after("        return x") == "    "
    assert indent_after("    x = 1") == "    "
