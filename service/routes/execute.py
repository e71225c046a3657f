"""``/v1/execute`` and ``/v1/execute/stream``: run code, answer at once or as it happens."""

from contextlib import aclosing
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from service.caller import while_connected
from service.dependencies import ExecutorDep, SessionsDep, TenantDep
from service.event_stream import EVENT_STREAM, EventStream, answer
from service.executor import Executor
from service.images import Images
from service.live_cell import LiveRun, gather
from service.routes.sessions import execute_in_session, stream_in_session
from service.schemas import ErrorBody, ExecuteResponse
from service.session_schemas import ExecuteAnywhereRequest

router = APIRouter(prefix="/v1", tags=["execute"])

_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorBody} for status in (404, 409, 410, 413, 422, 503)
}


@router.post("/execute", responses=_ERRORS, response_model=ExecuteResponse)
async def execute(
    request: ExecuteAnywhereRequest,
    http: Request,
    executor: ExecutorDep,
    sessions: SessionsDep,
    tenant: TenantDep,
    images: Images = "inline",
) -> Response:
    """Run code in a fresh kernel, or in a session's, and give back what it printed, showed and wrote."""
    if request.session_id is not None:
        return await execute_in_session(await sessions.get(request.session_id), request, images)
    return answer(await while_connected(http, _run(executor, request, tenant)), images)


async def _run(executor: Executor, request: ExecuteAnywhereRequest, tenant: str) -> ExecuteResponse:
    run = await executor.begin(request, tenant)
    async with aclosing(run.events()) as events:
        return gather([event async for event in events])


@router.post("/execute/stream", responses=_ERRORS | EVENT_STREAM, response_class=EventStream)
async def execute_stream(
    request: ExecuteAnywhereRequest,
    http: Request,
    executor: ExecutorDep,
    sessions: SessionsDep,
    tenant: TenantDep,
    images: Images = "inline",
) -> EventStream:
    """Run code as ``/v1/execute`` does and send its output as it comes."""
    if request.session_id is not None:
        return await stream_in_session(await sessions.get(request.session_id), request, images)
    run = await while_connected(http, executor.begin(request, tenant))
    live = LiveRun(run)
    return EventStream(live.events(), live.close, images)
