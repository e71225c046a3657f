"""``/v1/execute`` and ``/v1/execute/stream``: run code, answer at once or as it happens."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.dependencies import ExecutorDep
from service.executor import Run
from service.schemas import ErrorBody, ErrorEvent, ExecuteRequest, ExecuteResponse, ExecuteResult, OutputEvent
from sessions.models import Display, OutputChunk

router = APIRouter(prefix="/v1", tags=["execute"])
log = logging.getLogger(__name__)

_KEEP_ALIVE_SEC: Final = 15.0
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorBody} for status in (404, 413, 422, 503)
}
_EVENTS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Server-sent events: `output`, `display`, at last `result`; or `error`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.post("/execute", responses=_ERRORS)
async def execute(request: ExecuteRequest, executor: ExecutorDep) -> ExecuteResponse:
    """Run code in a fresh kernel and give back what it printed, showed and wrote."""
    run = await executor.begin(request)
    text: dict[str, list[str]] = {"stdout": [], "stderr": []}
    async with aclosing(run.events()) as events:
        async for event in events:
            if isinstance(event, OutputChunk):
                text[event.stream].append(event.text)
            elif isinstance(event, ExecuteResult):
                streams: dict[str, Any] = {name: "".join(parts) for name, parts in text.items()}
                return ExecuteResponse.model_construct(**streams, **dict(event))
    raise AssertionError("an execution ended without a result")


@router.post("/execute/stream", responses=_ERRORS | _EVENTS, response_class=StreamingResponse)
async def execute_stream(request: ExecuteRequest, executor: ExecutorDep) -> StreamingResponse:
    """Run code as ``/v1/execute`` does and send its output as it comes."""
    return _EventStream(await executor.begin(request))


class _EventStream(StreamingResponse):
    """Server-sent events of a run, which is closed even where the client left before they began."""

    def __init__(self, run: Run) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(_frames(run), media_type="text/event-stream", headers=headers)
        self._run = run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._run.close()


async def _frames(run: Run) -> AsyncIterator[str]:
    try:
        async with aclosing(run.events()) as events:
            following = asyncio.ensure_future(anext(events))
            try:
                while True:
                    done, _ = await asyncio.wait({following}, timeout=_KEEP_ALIVE_SEC)
                    if not done:
                        yield ": keep-alive\n\n"
                        continue
                    yield _frame(await following)
                    following = asyncio.ensure_future(anext(events))
            except StopAsyncIteration:
                return
            finally:
                following.cancel()
                await asyncio.wait({following})
    except Exception:
        log.exception("execution %s failed after its stream had begun", run.execution_id)
        lost = ErrorEvent(message="the kernel's container was lost; nothing of this run is kept")
        yield _event("error", lost.model_dump())


def _frame(event: OutputChunk | Display | ExecuteResult) -> str:
    if isinstance(event, OutputChunk):
        return _event("output", OutputEvent(stream=event.stream, data=event.text).model_dump())
    if isinstance(event, ExecuteResult):
        return _event("result", event.model_dump())
    shown = dict(event.output)
    if event.display_id is not None:
        shown["transient"] = {"display_id": event.display_id}
    if event.replaces:
        shown["output_type"] = "update_display_data"
    return _event("display", shown)


def _event(kind: str, data: Any) -> str:
    """ASCII only: some clients take every Unicode line separator for the end of a line."""
    return f"event: {kind}\ndata: {json.dumps(data, allow_nan=False)}\n\n"
