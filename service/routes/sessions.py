"""``/v1/sessions``: kernels that are kept between calls."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse

from service.database.errors import InvalidCursor
from service.http.dependencies import CallerDep, OwnerDep, SessionsDep, SettingsDep
from service.http.path_parameters import CellIdPath, SessionIdPath
from service.http.refusals import BODY, CODE, KERNEL, SESSION, TURN, refusals
from service.routes.event_stream import EVENT_STREAM, EventStream, answer
from service.routes.history import cells, notebook
from service.routes.schemas.assistance import (
    CompleteRequest,
    CompleteResponse,
    InspectRequest,
    InspectResponse,
)
from service.routes.schemas.cells import CellInfo, CellList
from service.routes.schemas.execute import ExecuteResponse, to_inputs
from service.routes.schemas.session_calls import (
    BashRequest,
    BashResponse,
    Detached,
    InputReply,
    SessionExecuteRequest,
)
from service.routes.schemas.sessions import (
    CreateSessionRequest,
    ExtendSessionRequest,
    SessionInfo,
    SessionList,
)
from service.routes.shapes import Shape, ShapeDep
from service.settings import Settings
from sessions.errors import (
    CellNotFound,
    NoInputRequest,
    SessionEnded,
    SessionMoving,
    SessionNotFound,
    TooManySessions,
)
from sessions.kernels.assistance import Completion, Inspection, Question
from sessions.kernels.errors import SupervisorFailed
from sessions.records import StoredCell
from sessions.session.session import Session

router = APIRouter(prefix="/v1/sessions", tags=["sessions"], responses=refusals())

_OPEN_SESSION: Final = refusals(*SESSION)
_RUN: Final = refusals(*CODE, *TURN)
_KNOWN_SESSION: Final = refusals(SessionNotFound, SessionMoving)
"""Errors of routes whose data can still be read after the session has ended."""
DETACHED: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": Detached, "description": "With `detach`: the code runs, detached from the call."}
}
_NOTEBOOK: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Notebook format 4.",
        "content": {notebook.MEDIA_TYPE: {"schema": {"type": "object"}}},
    }
}


async def _session(session_id: SessionIdPath, sessions: SessionsDep, owner: OwnerDep) -> Session:
    session = await sessions.get(session_id, owner)
    await session.cells.written()
    return session


SessionDep = Annotated[Session, Depends(_session)]


def _info(session: Session, settings: Settings) -> SessionInfo:
    return SessionInfo.of(
        session.record,
        idle_sec=settings.sessions.session_idle_sec,
        busy=session.busy,
        execution_count=session.kernel.execution_count,
    )


@router.post("", status_code=201, responses=refusals(*CODE, *KERNEL, TooManySessions, SessionMoving))
async def create_session(
    request: CreateSessionRequest, sessions: SessionsDep, settings: SettingsDep, caller: CallerDep
) -> SessionInfo:
    """Create a session: a kernel and its workspace, with the given files in it."""
    return _info(await sessions.create(caller, request.ttl_seconds, to_inputs(request.files)), settings)


@router.get("")
async def list_sessions(sessions: SessionsDep, owner: OwnerDep, settings: SettingsDep) -> SessionList:
    """List the open sessions, oldest first."""
    here = [_info(session, settings) for session in await sessions.all_written(owner)]
    there = [
        SessionInfo.of(
            other.record,
            idle_sec=settings.sessions.session_idle_sec,
            busy=other.busy,
            execution_count=other.cells,
        )
        for other in await sessions.open_at_other_replicas(owner)
    ]
    return SessionList(sessions=sorted((*here, *there), key=lambda session: session.created_at))


@router.get("/{session_id}", responses=_OPEN_SESSION)
async def get_session(session: SessionDep, settings: SettingsDep) -> SessionInfo:
    """Return an open session."""
    return _info(session, settings)


@router.patch("/{session_id}", responses=refusals(*SESSION, *BODY))
async def extend_session(
    request: ExtendSessionRequest, session: SessionDep, sessions: SessionsDep, settings: SettingsDep
) -> SessionInfo:
    """Set how many seconds from now the session expires."""
    await sessions.extend(session, request.ttl_seconds)
    return _info(session, settings)


@router.delete("/{session_id}", status_code=204, responses=_OPEN_SESSION)
async def delete_session(session_id: SessionIdPath, sessions: SessionsDep, owner: OwnerDep) -> None:
    """End a session. Files that it returned stay stored until they expire."""
    try:
        await sessions.delete(await sessions.get(session_id, owner))
    except SessionEnded as error:
        if error.reason == "deleted":
            raise SessionNotFound(session_id) from error
        raise


@router.post("/{session_id}/execute", responses=_RUN | DETACHED, response_model=ExecuteResponse)
async def execute(request: SessionExecuteRequest, session: SessionDep, shape: ShapeDep) -> Response:
    """Run code in the kernel of the session. With `detach`, respond at once with 202 and the cell id."""
    return await execute_in_session(session, request, shape)


async def execute_in_session(session: Session, request: SessionExecuteRequest, shape: Shape) -> Response:
    """Run a request in a session, and wait for the result unless the request is detached."""
    cell = await session.cells.execute(request.to_domain(), detach=request.detach)
    if request.detach:
        detached = Detached(cell_id=cell.cell_id, execution_id=cell.execution_id)
        return JSONResponse(detached.model_dump(), status_code=202)
    return answer(await cell.finished(), shape)


@router.post(
    "/{session_id}/execute/stream",
    status_code=200,
    responses=_RUN | EVENT_STREAM,
    response_class=EventStream,
)
async def execute_stream(request: SessionExecuteRequest, session: SessionDep, shape: ShapeDep) -> EventStream:
    """Run code in the kernel of the session, and send the output while the code runs.

    If the client disconnects, the code is interrupted, unless `detach` is set.
    """
    return await stream_in_session(session, request, shape)


async def stream_in_session(session: Session, request: SessionExecuteRequest, shape: Shape) -> EventStream:
    """Run a request in a session, and return the stream of its events."""
    cell = await session.cells.execute(
        request.to_domain(), detach=request.detach, allow_stdin=request.allow_stdin
    )

    async def close() -> None:
        if not (cell.is_over or request.detach):
            session.cells.abandon(cell)

    return EventStream(cell.follow(), close, shape)


@router.post("/{session_id}/input", status_code=204, responses=refusals(*SESSION, NoInputRequest, *BODY))
async def answer_input(reply: InputReply, session: SessionDep) -> None:
    """Send the line of input that the running code waits for after an `input_request`."""
    await session.cells.answer(reply.value)


@router.post("/{session_id}/bash", responses=_RUN)
async def run_bash(request: BashRequest, session: SessionDep) -> BashResponse:
    """Run a shell command in the workspace of the session."""
    return BashResponse.of(await session.run_command(request.to_domain()))


@router.post("/{session_id}/complete", responses=refusals(*TURN, *BODY))
async def complete(request: CompleteRequest, session: SessionDep) -> CompleteResponse:
    """Return the completions at the cursor from the kernel of the session. 409 while code runs."""
    question = Question(request.code, request.cursor)
    return CompleteResponse.model_validate(Completion.of(await session.ask(question), question))


@router.post("/{session_id}/inspect", responses=refusals(*TURN, *BODY))
async def inspect(request: InspectRequest, session: SessionDep) -> InspectResponse:
    """Return the signature, documentation and value of the name at the cursor. 409 while code runs."""
    question = Question(request.code, request.cursor, request.detail_level)
    data = Inspection.of(await session.ask(question)).data
    return InspectResponse(found=bool(data), data=data)


@router.post("/{session_id}/interrupt", status_code=204, responses=refusals(*SESSION, SupervisorFailed))
async def interrupt(session: SessionDep) -> None:
    """Interrupt the running code, as Ctrl-C does. The variables are kept."""
    await session.interrupt()


@router.post("/{session_id}/restart", responses=refusals(*TURN))
async def restart(session: SessionDep, settings: SettingsDep) -> SessionInfo:
    """Restart the kernel. The variables are lost, the files are kept."""
    await session.restart()
    return _info(session, settings)


@router.get(
    "/{session_id}/cells",
    response_model=CellList,
    responses=refusals(SessionNotFound, SessionMoving, InvalidCursor),
)
async def list_cells(
    session_id: SessionIdPath,
    sessions: SessionsDep,
    owner: OwnerDep,
    shape: ShapeDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="Maximum number of cells in a page.")] = 100,
    after: Annotated[str | None, Query(description="`next` of the previous page.", max_length=200)] = None,
) -> Response:
    """List the cells of the session with their results, also after the session has ended.

    A page ends after 4 MiB of code and results.
    """
    page = await sessions.cells(session_id, owner, limit, after)
    pieces = cells.page(sessions.stored_cells(page), page.next, shape)
    return StreamingResponse(pieces, media_type="application/json")


@router.get(
    "/{session_id}/cells/{cell_id}",
    response_model=CellInfo,
    responses=refusals(SessionNotFound, SessionMoving, CellNotFound),
)
async def get_cell(
    session_id: SessionIdPath,
    cell_id: CellIdPath,
    sessions: SessionsDep,
    owner: OwnerDep,
    shape: ShapeDep,
) -> Response:
    """Return one cell of the session."""
    cell = await sessions.cell(session_id, cell_id, owner)
    return StreamingResponse(cells.one(cell, shape), media_type="application/json")


@router.get("/{session_id}/notebook", response_class=Response, responses=_NOTEBOOK | _KNOWN_SESSION)
async def get_notebook(session_id: SessionIdPath, sessions: SessionsDep, owner: OwnerDep) -> Response:
    """Return the session as a Jupyter notebook, including outputs."""
    first = await sessions.cells(session_id, owner)

    async def stored_cells() -> AsyncIterator[StoredCell]:
        page = first
        while True:
            async for cell in sessions.stored_cells(page):
                yield cell
            if page.next is None:
                return
            page = await sessions.cells(session_id, owner, after=page.next)

    headers = {"Content-Disposition": f'attachment; filename="{session_id}.ipynb"'}
    return StreamingResponse(notebook.stream(stored_cells()), media_type=notebook.MEDIA_TYPE, headers=headers)
