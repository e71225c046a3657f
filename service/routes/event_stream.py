"""The response that sends the events of an execution as server-sent events."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Final

from fastapi import Response
from fastapi.responses import StreamingResponse
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from service.http.server_sent_events import EVENT_STREAM_TYPE, KEEP_ALIVE, format_error, format_event
from service.routes.schemas.stream import EVENT_SCHEMA, Asked, Cleared, Printed
from service.routes.shapes import Shape
from sessions.errors import CallFailed
from sessions.executions.result import ExecutionEvent, ExecutionResult, FinishedExecution, gather
from sessions.models import ClearOutput, Display, InputRequest, Mark, OutputChunk

log = logging.getLogger(__name__)

_KEEP_ALIVE_SEC: Final = 15.0

EVENT_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Server-sent events: `output`, `display` and `clear_output` in the order in which "
        "they were made, then `result` or `error` at the end.",
        "content": {EVENT_STREAM_TYPE: {"schema": EVENT_SCHEMA}},
    }
}


class EventStream(StreamingResponse):
    """Sends the events of an execution, and calls `close` at the end.

    `close` is also called if the client disconnects before the first event.
    """

    def __init__(
        self, events: AsyncGenerator[ExecutionEvent], close: Callable[[], Awaitable[None]], shape: Shape
    ) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(self._frames(shape), media_type=EVENT_STREAM_TYPE, headers=headers)
        self._events = events
        self._close = close
        self._following: asyncio.Future[ExecutionEvent] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # If the client has disconnected, awaits in `_frames` are cancelled, so the cleanup is done here.
            if self._following is not None:
                self._following.cancel()
                await asyncio.wait({self._following})
            await self._events.aclose()
            await self._close()

    async def _frames(self, shape: Shape) -> AsyncIterator[str]:
        printed: list[ExecutionEvent] = []
        try:
            while True:
                self._following = asyncio.ensure_future(anext(self._events))
                while not (await asyncio.wait({self._following}, timeout=_KEEP_ALIVE_SEC))[0]:
                    yield KEEP_ALIVE
                event = await self._following
                if shape.ordered and isinstance(event, OutputChunk):
                    printed.append(event)
                if isinstance(event, ExecutionResult):
                    finished = gather([*printed, event])
                    yield format_event("result", event.as_json() | {"outputs": shape.outputs(finished)})
                else:
                    yield _frame(event, shape)
        except StopAsyncIteration:
            return
        except CallFailed as error:
            yield format_error(str(error))
        except Exception:
            log.exception("an execution failed after its stream had begun")
            yield format_error("the kernel's container was lost; nothing of this run is kept")


def _frame(event: ExecutionEvent, shape: Shape) -> str:
    match event:
        case OutputChunk():
            return format_event("output", Printed(stream=event.stream, data=event.text).model_dump())
        case Mark():
            # Only cells of notebooks have marks.
            return ""
        case InputRequest():
            return format_event(
                "input_request", Asked(prompt=event.prompt, password=event.password).model_dump()
            )
        case Display():
            return format_event("display", _shown(event, shape))
        case ClearOutput():
            return format_event("clear_output", Cleared(wait=event.wait).model_dump())
        case ExecutionResult():
            return ""


def answer(finished: FinishedExecution, shape: Shape) -> Response:
    """Return the response of a finished execution. Its fields are valid, so they are not validated again."""
    body = to_json(finished.as_json() | {"outputs": shape.outputs(finished)}, inf_nan_mode="null")
    return Response(body, media_type="application/json")


def _shown(event: Display, shape: Shape) -> dict[str, Any]:
    shown = shape.output(event.output)
    if event.display_id is not None:
        shown["transient"] = {"display_id": event.display_id}
    if event.replaces:
        shown["output_type"] = "update_display_data"
    return shown
