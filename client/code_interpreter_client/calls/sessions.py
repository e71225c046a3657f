"""Sessions and their cells."""

from typing import Any, Literal

from code_interpreter_client.calls import paths, timeouts
from code_interpreter_client.calls.inputs import Inputs, with_files
from code_interpreter_client.http.exchange import Flow, Request, answer, json_of, read_as
from code_interpreter_client.models.sessions import (
    Cell,
    CellPage,
    CommandResult,
    Completion,
    Inspection,
    SessionInfo,
    SessionList,
)

_RESTART_SEC = 10.0
_COMMAND_SEC = 30.0
_PAGE = 1000


def open_session(*, ttl: int = 900, files: Inputs | None = None) -> Flow[SessionInfo]:
    """Open a session: a kernel that is kept between calls, for `ttl` seconds."""
    response = yield from with_files(files, Request("POST", "v1/sessions", json={"ttl_seconds": ttl}))
    return read_as(SessionInfo, response)


def list_sessions() -> Flow[list[SessionInfo]]:
    """Return the open sessions, oldest first."""
    listed = yield from answer(SessionList, Request("GET", "v1/sessions", repeatable=True))
    return list(listed.sessions)


def describe(session_id: str) -> Flow[SessionInfo]:
    """Return the session's current state. Raises `SessionEnded`, `SessionNotFound`."""
    return (yield from answer(SessionInfo, Request("GET", paths.session(session_id), repeatable=True)))


def extend(session_id: str, ttl: int) -> Flow[SessionInfo]:
    """Let the session expire `ttl` seconds from now."""
    request = Request("PATCH", paths.session(session_id), json={"ttl_seconds": ttl}, repeatable=True)
    return (yield from answer(SessionInfo, request))


def delete(session_id: str) -> Flow[None]:
    """End the session."""
    yield Request("DELETE", paths.session(session_id), repeatable=True)


def interrupt(session_id: str) -> Flow[None]:
    """Interrupt the code that runs, as Ctrl-C does. Does nothing if no code runs."""
    yield Request("POST", f"{paths.session(session_id)}/interrupt")


def restart(session_id: str) -> Flow[SessionInfo]:
    """Replace the kernel. Variables are lost; files stay."""
    request = Request("POST", f"{paths.session(session_id)}/restart", seconds=_RESTART_SEC)
    return (yield from answer(SessionInfo, request))


def bash(session_id: str, command: str, *, timeout: float | None = None) -> Flow[CommandResult]:
    """Run a shell command in the workspace. `timeout` is in seconds; None: the service's default (30 s)."""
    body: dict[str, Any] = {"cmd": command} | timeouts.as_field(timeout)
    seconds = timeouts.seconds_of(body, _COMMAND_SEC)
    request = Request("POST", f"{paths.session(session_id)}/bash", json=body, seconds=seconds)
    return (yield from answer(CommandResult, request))


def answer_input(session_id: str, value: str) -> Flow[None]:
    """Answer an `InputRequest` of the code with one line. Raises `NoInputRequest` if there is none."""
    yield Request("POST", f"{paths.session(session_id)}/input", json={"value": value})


def complete(session_id: str, code: str, cursor_pos: int | None = None) -> Flow[Completion]:
    """Return completions at the cursor, by default the end of `code`.

    Raises `SessionBusy` while code runs.
    """
    body = {"code": code, "cursor_pos": cursor_pos}
    request = Request("POST", f"{paths.session(session_id)}/complete", json=body, repeatable=True)
    return (yield from answer(Completion, request))


def inspect(
    session_id: str, code: str, cursor_pos: int | None = None, *, detail: Literal[0, 1] = 0
) -> Flow[Inspection]:
    """Return the documentation of the name at the cursor; with its source if `detail` is 1.

    Raises `SessionBusy` while code runs.
    """
    body = {"code": code, "cursor_pos": cursor_pos, "detail_level": detail}
    request = Request("POST", f"{paths.session(session_id)}/inspect", json=body, repeatable=True)
    return (yield from answer(Inspection, request))


def cells(session_id: str) -> Flow[list[Cell]]:
    """Return the cells of the session in the order in which they ran, also after the session has ended.

    The service sends them in pages of a few megabytes. `cells_page` returns one page.
    """
    found: list[Cell] = []
    page = yield from cells_page(session_id, limit=_PAGE)
    while page.next is not None:
        found += page.cells
        page = yield from cells_page(session_id, limit=_PAGE, after=page.next)
    return [*found, *page.cells]


def cells_page(session_id: str, *, limit: int = 100, after: str | None = None) -> Flow[CellPage]:
    """Return at most `limit` cells of the session, and fewer if they are large.

    `after` is `next` of the page before; None for the first page.
    """
    params: dict[str, str | int] = {"limit": limit, "outputs": "ordered"}
    if after is not None:
        params["after"] = after
    request = Request("GET", f"{paths.session(session_id)}/cells", params=params, repeatable=True)
    return (yield from answer(CellPage, request))


def cell(session_id: str, cell_id: str) -> Flow[Cell]:
    """Return one cell of the session. Raises `CellNotFound`."""
    path = f"{paths.session(session_id)}/cells/{paths.quoted(cell_id)}"
    request = Request("GET", path, params={"outputs": "ordered"}, repeatable=True)
    return (yield from answer(Cell, request))


def notebook(session_id: str) -> Flow[dict[str, Any]]:
    """Return the session as a notebook (nbformat 4), also after the session has ended."""
    response = yield Request("GET", f"{paths.session(session_id)}/notebook", repeatable=True)
    document: dict[str, Any] = json_of(response)
    return document
