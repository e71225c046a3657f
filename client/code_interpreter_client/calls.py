"""Every call of the service's API, once: what is sent, and what its answer means. No I/O happens here.

Each is a flow (see `exchange`). Both clients have them as methods, with these arguments and descriptions.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import httpx

from code_interpreter_client.errors import CodeInterpreterError
from code_interpreter_client.exchange import Flow, Progress, Request, answer, json_of, read_as
from code_interpreter_client.models import (
    Cell,
    CellList,
    CommandResult,
    Completion,
    FileList,
    Health,
    Inspection,
    Result,
    ResultFile,
    SessionInfo,
    SessionList,
    Started,
    StoredFile,
    WorkspaceFile,
    WorkspaceFileList,
)
from code_interpreter_client.places import place_beneath
from code_interpreter_client.sources import Sendable, Source

AnyFile = str | StoredFile | ResultFile
"""A stored file, or its id."""
Inputs = Mapping[str, bytes | Path | StoredFile | ResultFile | str]
"""Path in the working folder to what is put there: content, a file on disk, a stored file or its id."""

_RUN_SEC = 10.0
_COMMAND_SEC = 30.0
_PAGE = 1000


# What runs code


def run(
    code: str,
    *,
    files: Inputs | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    show_last_line: bool = True,
) -> Flow[Result]:
    """Run Python in a fresh kernel and wait for its end.

    Args:
        code: what to run; top-level `await`, magics and `!commands` work.
        files: what the code finds in its working folder, by path.
        stdin: what it reads from standard input.
        timeout: the longest run, in seconds; None leaves that to the service (2 s).
        show_last_line: whether the value of the last line is shown, as in a notebook.

    Raises:
        Refused: nothing has run, or the service failed; see its subclasses. What the code does wrong is no
            error: see `Result.ok`.
        Unreachable: there is no service, or the connection was lost.
    """
    return (yield from _run("v1/execute", files, _options(code, stdin, timeout, show_last_line)))


def open_stream(
    code: str,
    *,
    files: Inputs | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    show_last_line: bool = True,
) -> Flow[httpx.Response]:
    """Run Python in a fresh kernel and follow it: text and outputs as they come, and the result.

    Leaving the stream before its end ends the code. Arguments and errors are those of `run`; `ExecutionLost`
    comes where the service loses the execution underway.
    """
    body = _options(code, stdin, timeout, show_last_line)
    return (yield from _open_stream("v1/execute/stream", files, body))


def session_run(
    session_id: str,
    code: str,
    *,
    files: Inputs | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    show_last_line: bool = True,
) -> Flow[Result]:
    """Run Python in the session's kernel and wait for its end; else as `Client.run`."""
    body = _options(code, stdin, timeout, show_last_line)
    return (yield from _run(f"{_at(session_id)}/execute", files, body))


def session_open_stream(
    session_id: str,
    code: str,
    *,
    files: Inputs | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    show_last_line: bool = True,
    allow_input: bool = True,
) -> Flow[httpx.Response]:
    """Run Python in the session's kernel and follow it, as `Client.stream` does.

    With `allow_input` the code's `input()` comes as an `InputRequest`, to be answered by `answer`; with
    `stdin` given it reads that. Leaving the stream before its end interrupts the code.
    """
    body = _options(code, stdin, timeout, show_last_line)
    body["allow_stdin"] = allow_input and stdin is None
    return (yield from _open_stream(f"{_at(session_id)}/execute/stream", files, body))


def session_start(
    session_id: str, code: str, *, files: Inputs | None = None, timeout: float | None = None
) -> Flow[Started]:
    """Start Python in the session's kernel and do not wait; `cell` tells what became of it."""
    body = _options(code, None, timeout, True) | {"detach": True}
    response = yield from _with_files(files, Request("POST", f"{_at(session_id)}/execute", json=body))
    return read_as(Started, response)


def _options(code: str, stdin: str | None, timeout: float | None, show_last_line: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"code": code, "last_line_interactive": show_last_line}
    if stdin is not None:
        body["stdin"] = stdin
    if timeout is not None:
        body["timeout_ms"] = _milliseconds(timeout)
    return body


def _milliseconds(seconds: float) -> int:
    if not 0 < seconds < math.inf:
        raise ValueError(f"A timeout is a number of seconds, and not {seconds!r}")
    return max(1, round(seconds * 1000))


def _seconds(body: Mapping[str, Any], default: float) -> float:
    return float(body["timeout_ms"]) / 1000 if "timeout_ms" in body else default


def _run(path: str, files: Inputs | None, body: dict[str, Any]) -> Flow[Result]:
    request = Request("POST", path, json=body, seconds=_seconds(body, _RUN_SEC))
    response = yield from _with_files(files, request)
    return read_as(Result, response)


def _open_stream(path: str, files: Inputs | None, body: dict[str, Any]) -> Flow[httpx.Response]:
    return (yield from _with_files(files, Request("POST", path, json=body, stream=True)))


def _with_files(files: Inputs | None, request: Request) -> Flow[httpx.Response]:
    """Send a request that names stored files; what had to be stored for it is deleted afterwards."""
    inputs: list[dict[str, str]] = []
    own: list[str] = []
    try:
        for path, what in (files or {}).items():
            if isinstance(what, bytes | Path):
                stored = yield from upload(what, name=Path(path).name)
                own.append(stored.file_id)
                inputs.append({"path": path, "file_id": stored.file_id})
            else:
                inputs.append({"path": path, "file_id": _file_id(what)})
        response = yield _with_inputs(request, inputs)
    except CodeInterpreterError:
        yield from _delete_all(own)
        raise
    yield from _delete_all(own)
    return response


def _with_inputs(request: Request, inputs: list[dict[str, str]]) -> Request:
    return replace(request, json={**request.json, "files": inputs}) if inputs else request


def _delete_all(file_ids: list[str]) -> Flow[None]:
    for file_id in file_ids:
        # They expire in any case.
        with contextlib.suppress(CodeInterpreterError):
            yield from delete_file(file_id)


# Stored files


def upload(source: Sendable, *, name: str | None = None) -> Flow[StoredFile]:
    """Store a file: bytes, a path, or a file that is open for reading bytes. It is sent piece by piece."""
    request = Request("POST", "v1/files", form_file=Source.of(source, name))
    return (yield from answer(StoredFile, request))


def list_files() -> Flow[list[StoredFile]]:
    """All stored files, oldest first."""
    found: list[StoredFile] = []
    after: dict[str, str | int] = {}
    while True:
        request = Request("GET", "v1/files", params={"limit": _PAGE, **after}, repeatable=True)
        page = yield from answer(FileList, request)
        found += page.files
        if page.next is None:
            return found
        after = {"after": page.next}


def read_file(file: AnyFile) -> Flow[bytes]:
    """A stored file's bytes."""
    response = yield Request("GET", f"v1/files/{_quoted(_file_id(file))}", repeatable=True)
    return response.content


def download_file(file: AnyFile, to: str | Path, *, progress: Progress | None = None) -> Flow[Path]:
    """Write a stored file to disk, piece by piece; `to` is there only once all of it is.

    `progress(bytes_so_far, bytes_in_all)` is called as it comes.
    """
    return (yield from _download(f"v1/files/{_quoted(_file_id(file))}", Path(to), progress))


def save_files(result: Result, folder: str | Path) -> Flow[list[Path]]:
    """Write all files of a result to disk, beneath `folder`, which is made; gives their paths there.

    Raises:
        ValueError: a file's path leads out of the folder.
    """
    saved = []
    for file in result.files:
        saved.append((yield from download_file(file, place_beneath(Path(folder), file.path))))  # noqa: PERF401
    return saved


def _download(path: str, target: Path, progress: Progress | None) -> Flow[Path]:
    yield Request("GET", path, repeatable=True, into=target, progress=progress)
    return target


def delete_file(file: AnyFile) -> Flow[None]:
    """Delete a stored file. Raises `FileNotFound`."""
    yield Request("DELETE", f"v1/files/{_quoted(_file_id(file))}", repeatable=True)


def _file_id(file: AnyFile) -> str:
    return file if isinstance(file, str) else file.file_id


# Sessions


def open_session(*, ttl: int = 900, files: Inputs | None = None) -> Flow[SessionInfo]:
    """Open a session: a kernel that is kept between calls, for `ttl` seconds."""
    response = yield from _with_files(files, Request("POST", "v1/sessions", json={"ttl_seconds": ttl}))
    return read_as(SessionInfo, response)


def list_sessions() -> Flow[list[SessionInfo]]:
    """The open sessions, oldest first."""
    listed = yield from answer(SessionList, Request("GET", "v1/sessions", repeatable=True))
    return list(listed.sessions)


def describe_session(session_id: str) -> Flow[SessionInfo]:
    """How the session is now. Raises `SessionEnded`, `SessionNotFound`."""
    return (yield from answer(SessionInfo, Request("GET", _at(session_id), repeatable=True)))


def extend_session(session_id: str, ttl: int) -> Flow[SessionInfo]:
    """Let the session live for `ttl` seconds from now."""
    request = Request("PATCH", _at(session_id), json={"ttl_seconds": ttl}, repeatable=True)
    return (yield from answer(SessionInfo, request))


def delete_session(session_id: str) -> Flow[None]:
    """End the session."""
    yield Request("DELETE", _at(session_id), repeatable=True)


def interrupt(session_id: str) -> Flow[None]:
    """Interrupt what runs, as Ctrl-C does; nothing if nothing does."""
    yield Request("POST", f"{_at(session_id)}/interrupt")


def restart(session_id: str) -> Flow[SessionInfo]:
    """Replace the kernel: variables are gone, files stay."""
    return (yield from answer(SessionInfo, Request("POST", f"{_at(session_id)}/restart", seconds=_RUN_SEC)))


def bash(session_id: str, command: str, *, timeout: float | None = None) -> Flow[CommandResult]:
    """Run a shell command in the working folder; `timeout` in seconds (30)."""
    body: dict[str, Any] = {"cmd": command}
    if timeout is not None:
        body["timeout_ms"] = _milliseconds(timeout)
    request = Request("POST", f"{_at(session_id)}/bash", json=body, seconds=_seconds(body, _COMMAND_SEC))
    return (yield from answer(CommandResult, request))


def answer_input(session_id: str, value: str) -> Flow[None]:
    """Answer the running code's `InputRequest` with one line. Raises `NoInputRequest`."""
    yield Request("POST", f"{_at(session_id)}/input", json={"value": value})


def complete(session_id: str, code: str, cursor_pos: int | None = None) -> Flow[Completion]:
    """What can stand at the cursor, by default the end of `code`. Raises `SessionBusy` while code runs."""
    body = {"code": code, "cursor_pos": cursor_pos}
    request = Request("POST", f"{_at(session_id)}/complete", json=body, repeatable=True)
    return (yield from answer(Completion, request))


def inspect(
    session_id: str, code: str, cursor_pos: int | None = None, *, detail: Literal[0, 1] = 0
) -> Flow[Inspection]:
    """What is known of the name at the cursor; `detail` 1: with its source. Raises `SessionBusy`."""
    body = {"code": code, "cursor_pos": cursor_pos, "detail_level": detail}
    request = Request("POST", f"{_at(session_id)}/inspect", json=body, repeatable=True)
    return (yield from answer(Inspection, request))


def cells(session_id: str) -> Flow[list[Cell]]:
    """What ran in the session, in order; also after it has ended."""
    listed = yield from answer(CellList, Request("GET", f"{_at(session_id)}/cells", repeatable=True))
    return list(listed.cells)


def cell(session_id: str, cell_id: str) -> Flow[Cell]:
    """One cell of the session. Raises `CellNotFound`."""
    request = Request("GET", f"{_at(session_id)}/cells/{_quoted(cell_id)}", repeatable=True)
    return (yield from answer(Cell, request))


def notebook(session_id: str) -> Flow[dict[str, Any]]:
    """The session as a notebook (nbformat 4), also after it has ended."""
    response = yield Request("GET", f"{_at(session_id)}/notebook", repeatable=True)
    document: dict[str, Any] = json_of(response)
    return document


# The working folder of a session


def session_files(session_id: str) -> Flow[list[WorkspaceFile]]:
    """All files in the working folder, by path."""
    request = Request("GET", f"{_at(session_id)}/files", repeatable=True)
    listed = yield from answer(WorkspaceFileList, request)
    return list(listed.files)


def session_read(session_id: str, path: str) -> Flow[bytes]:
    """A file's bytes, as it is now. Raises `FileNotFound`."""
    response = yield Request("GET", _file_at(session_id, path), repeatable=True)
    return response.content


def session_download(
    session_id: str, path: str, to: str | Path, *, progress: Progress | None = None
) -> Flow[Path]:
    """Write a file to disk, piece by piece; `to` is there only once all of it is."""
    return (yield from _download(_file_at(session_id, path), Path(to), progress))


def session_upload(session_id: str, path: str, source: Sendable) -> Flow[WorkspaceFile]:
    """Put a file there, whatever is there: bytes, a path, or an open file, sent piece by piece."""
    request = Request("PUT", _file_at(session_id, path), body=Source.of(source, path), repeatable=True)
    return (yield from answer(WorkspaceFile, request))


def session_delete_file(session_id: str, path: str) -> Flow[None]:
    """Delete a file. Raises `FileNotFound`."""
    yield Request("DELETE", _file_at(session_id, path), repeatable=True)


def session_rename(session_id: str, path: str, to: str) -> Flow[WorkspaceFile]:
    """Move a file to a path that is free."""
    request = Request("PATCH", _file_at(session_id, path), json={"path": to})
    return (yield from answer(WorkspaceFile, request))


# Others


def health() -> Flow[Health]:
    """Whether the service works, and its version."""
    return (yield from answer(Health, Request("GET", "health", repeatable=True)))


def _quoted(part: str) -> str:
    """A part of a path; dots are quoted where they would be taken for folders."""
    return quote(part, safe="") if part.strip(".") else part.replace(".", "%2E")


def _at(session_id: str) -> str:
    return f"v1/sessions/{_quoted(session_id)}"


def _file_at(session_id: str, path: str) -> str:
    return f"{_at(session_id)}/files/{'/'.join(_quoted(part) for part in path.split('/'))}"
