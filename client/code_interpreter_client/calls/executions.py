"""Calls that run Python."""

from typing import Any

import httpx

from code_interpreter_client.calls import paths, timeouts
from code_interpreter_client.calls.inputs import Inputs, with_files
from code_interpreter_client.http.exchange import Flow, Request, read_as
from code_interpreter_client.models.results import Result
from code_interpreter_client.models.sessions import Started

_ORDERED = {"outputs": "ordered"}
_DEFAULT_SEC = 10.0
"""How long an execution without a timeout may take; more than the service's default."""


def run(
    code: str,
    *,
    files: Inputs | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    show_last_line: bool = True,
) -> Flow[Result]:
    """Run Python in a new kernel and wait until it ends.

    Errors of the code are not raised; see `Result.ok` and `Result.check`.

    Args:
        code: what to run. Top-level `await`, magics and `!commands` work.
        files: what the code finds in its workspace, by path.
        stdin: the text that the code reads from standard input.
        timeout: how long the code may run, in seconds. None: the service's default (2 s).
        show_last_line: whether the value of the last line is shown, as in a notebook.

    Raises:
        Refused: the service did not run the code, or failed; see the subclasses.
        Unreachable: no service answers, or the connection was lost.
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
    """Run Python in a new kernel and follow it: text and outputs as they are produced, then the result.

    If the stream is closed before its end, the code is stopped. Arguments and errors are those of `run`.
    The stream raises `ExecutionLost` if the service loses the execution.
    """
    body = _options(code, stdin, timeout, show_last_line)
    return (yield from _open_stream("v1/execute/stream", files, body))


def run_in_session(
    session_id: str,
    code: str,
    *,
    files: Inputs | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    show_last_line: bool = True,
) -> Flow[Result]:
    """Run Python in the session's kernel and wait until it ends. Arguments are those of `Client.run`."""
    body = _options(code, stdin, timeout, show_last_line)
    return (yield from _run(f"{paths.session(session_id)}/execute", files, body))


def open_stream_in_session(
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

    With `allow_input`, each `input()` of the code is an `InputRequest`, which `answer` answers. If `stdin`
    is given, `input()` reads that instead. If the stream is closed before its end, the code is interrupted.
    """
    body = _options(code, stdin, timeout, show_last_line)
    body["allow_stdin"] = allow_input and stdin is None
    return (yield from _open_stream(f"{paths.session(session_id)}/execute/stream", files, body))


def start_in_session(
    session_id: str, code: str, *, files: Inputs | None = None, timeout: float | None = None
) -> Flow[Started]:
    """Start Python in the session's kernel without waiting for it. `cell` returns its result later."""
    body = _options(code, None, timeout, True) | {"detach": True}
    response = yield from with_files(
        files, Request("POST", f"{paths.session(session_id)}/execute", json=body)
    )
    return read_as(Started, response)


def _options(code: str, stdin: str | None, timeout: float | None, show_last_line: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"code": code, "last_line_interactive": show_last_line}
    if stdin is not None:
        body["stdin"] = stdin
    return body | timeouts.as_field(timeout)


def _run(path: str, files: Inputs | None, body: dict[str, Any]) -> Flow[Result]:
    request = Request(
        "POST", path, json=body, params=_ORDERED, seconds=timeouts.seconds_of(body, _DEFAULT_SEC)
    )
    response = yield from with_files(files, request)
    return read_as(Result, response)


def _open_stream(path: str, files: Inputs | None, body: dict[str, Any]) -> Flow[httpx.Response]:
    return (yield from with_files(files, Request("POST", path, json=body, params=_ORDERED, stream=True)))
