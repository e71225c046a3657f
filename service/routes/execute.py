"""``/v1/execute`` and ``/v1/execute/stream``: run code and return the result, or stream the output."""

from contextlib import aclosing

from fastapi import APIRouter, Request, Response

from service.http.dependencies import CallerDep, ExecutorDep, SessionsDep
from service.http.disconnect import while_connected
from service.http.refusals import CODE, KERNEL, TURN, refusals
from service.routes.event_stream import EVENT_STREAM, EventStream, answer
from service.routes.schemas.execute import ExecuteResponse
from service.routes.schemas.session_calls import ExecuteAnywhereRequest
from service.routes.sessions import DETACHED, execute_in_session, stream_in_session
from service.routes.shapes import ShapeDep
from sessions.executions.one_shot import OneShotExecutor
from sessions.executions.result import FinishedExecution, gather
from sessions.executions.running_cell import BufferedExecution
from sessions.models import Caller

router = APIRouter(prefix="/v1", tags=["execute"], responses=refusals(*CODE, *KERNEL, *TURN))


@router.post("/execute", responses=DETACHED, response_model=ExecuteResponse)
async def execute(
    request: ExecuteAnywhereRequest,
    http: Request,
    executor: ExecutorDep,
    sessions: SessionsDep,
    caller: CallerDep,
    shape: ShapeDep,
) -> Response:
    """Run code in a fresh kernel or in a session, and return the printed text, rich outputs and files."""
    if request.session_id is not None:
        session = await sessions.get(request.session_id, caller.owner)
        return await execute_in_session(session, request, shape)
    return answer(await while_connected(http, _run(executor, request, caller)), shape)


async def _run(
    executor: OneShotExecutor, request: ExecuteAnywhereRequest, caller: Caller
) -> FinishedExecution:
    execution = await executor.begin(request.to_domain(), caller)
    async with aclosing(execution.events()) as events:
        return gather([event async for event in events])


@router.post("/execute/stream", status_code=200, responses=EVENT_STREAM, response_class=EventStream)
async def execute_stream(
    request: ExecuteAnywhereRequest,
    http: Request,
    executor: ExecutorDep,
    sessions: SessionsDep,
    caller: CallerDep,
    shape: ShapeDep,
) -> EventStream:
    """Run code as ``/v1/execute`` does, and send the output while the code runs."""
    if request.session_id is not None:
        session = await sessions.get(request.session_id, caller.owner)
        return await stream_in_session(session, request, shape)
    execution = BufferedExecution(await while_connected(http, executor.begin(request.to_domain(), caller)))
    return EventStream(execution.events(), execution.close, shape)
