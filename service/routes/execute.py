"""``/v1/execute`` and ``/v1/execute/stream``: run code, answer at once or as it happens."""

from contextlib import aclosing

from fastapi import APIRouter, Response

from service.dependencies import CallerDep, ExecutorDep, SessionsDep
from service.event_stream import EVENT_STREAM, EventStream, answer
from service.images import Images
from service.live_cell import gather
from service.routes.refusals import refusals
from service.routes.sessions import DETACHED, execute_in_session, stream_in_session
from service.schemas import ExecuteResponse
from service.session_schemas import ExecuteAnywhereRequest

router = APIRouter(prefix="/v1", tags=["execute"], responses=refusals(404, 409, 410, 413))


@router.post("/execute", responses=DETACHED, response_model=ExecuteResponse)
async def execute(
    request: ExecuteAnywhereRequest,
    executor: ExecutorDep,
    sessions: SessionsDep,
    caller: CallerDep,
    images: Images = "inline",
) -> Response:
    """Run code in a fresh kernel, or in a session's, and give back what it printed, showed and wrote."""
    if request.session_id is not None:
        session = await sessions.get(request.session_id, caller.owner)
        return await execute_in_session(session, request, images)
    run = await executor.begin(request, caller)
    async with aclosing(run.events()) as events:
        response = gather([event async for event in events])
    return answer(response, images)


@router.post("/execute/stream", status_code=200, responses=EVENT_STREAM, response_class=EventStream)
async def execute_stream(
    request: ExecuteAnywhereRequest,
    executor: ExecutorDep,
    sessions: SessionsDep,
    caller: CallerDep,
    images: Images = "inline",
) -> EventStream:
    """Run code as ``/v1/execute`` does and send its output as it comes."""
    if request.session_id is not None:
        session = await sessions.get(request.session_id, caller.owner)
        return await stream_in_session(session, request, images)
    run = await executor.begin(request, caller)
    return EventStream(run.events(), run.close, images)
