"""Gives every request its ids, a line in the access log, its metrics and a span."""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from fastapi import FastAPI
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.answers import ErrorResponse
from service.http.server.access_log import WEBSOCKET, AccessLog
from service.telemetry.metrics import NO_ROUTE, Metrics
from service.telemetry.request_context import (
    REQUEST_CONTEXT,
    REQUEST_ID_HEADER,
    RequestContext,
    request_id_of,
)
from service.telemetry.traces import Traces

_EXECUTION_ID_HEADER: Final = b"x-execution-id"
_TRACED: Final = ("/v1/", "/api/", "/mcp")
"""Prefixes of the paths that run code. Each cell of a WebSocket gets its own trace instead."""
_ANSWERED: Final = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
_SWITCHING_PROTOCOLS: Final = 101
_STOPPING: Final = (
    "The service is stopping. Code in a session keeps running, and its cell will have the result"
)
_DOWNLOADS: Final = {
    ("GET", "/v1/files/{file_id}"): "store",
    ("GET", "/v1/sessions/{session_id}/files/{path}"): "session",
}


class Ingress:
    """ASGI middleware, outside all others, so that it sees every response and every error."""

    def __init__(self, app: ASGIApp, application: FastAPI) -> None:
        """`application` is the one that `service.app.create_app` made; `app` wraps it."""
        self._app = app
        self._routes: Iterable[Route | WebSocketRoute] = application.state.served
        self._metrics: Metrics = application.state.metrics
        self._traces: Traces = application.state.traces
        self._access_log = AccessLog(route.path_format for route in self._routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        context = RequestContext(request_id_of(scope["headers"]))
        # The context stays set: the server logs errors in the request's own task.
        REQUEST_CONTEXT.set(context)
        if scope["type"] == "http" and scope["path"].startswith(_TRACED):
            self._traces.request_began(context, scope["headers"])
        status, sent, answered = 500, 0, False

        async def send_and_record(message: Message) -> None:
            nonlocal status, sent, answered
            if message["type"] in _ANSWERED:
                answered = True
                status = message.get("status", _SWITCHING_PROTOCOLS)
                message = {**message, "headers": [*message.get("headers", ()), *_headers(context)]}
                if status == _SWITCHING_PROTOCOLS:
                    # The WebSocket may stay open for days, so its line is written now.
                    self._record(scope, context, status, 0, time.perf_counter() - began)
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_and_record)
        except asyncio.CancelledError:
            # The server cancels requests that are not done a few seconds after it began to stop.
            if answered or scope["type"] != "http":
                raise
            await ErrorResponse(503, "stopping", _STOPPING, {"Retry-After": "1"})(
                scope, receive, send_and_record
            )
        finally:
            if status != _SWITCHING_PROTOCOLS:
                self._record(scope, context, status, sent, time.perf_counter() - began)

    def _record(self, scope: Scope, context: RequestContext, status: int, sent: int, seconds: float) -> None:
        method, route = scope.get("method", WEBSOCKET), self._route_of(scope)
        self._metrics.request(route, method, status, seconds)
        if status < 400 and (source := _DOWNLOADS.get((method, route))) is not None:
            self._metrics.downloaded(source, sent)
        self._traces.request_ended(context, method, route, status)
        self._access_log.note(scope, status, seconds)

    def _route_of(self, scope: Scope) -> str:
        """Return the path template of the route, even if the request was refused before the route."""
        route = scope.get("route")
        if isinstance(route, Route | WebSocketRoute):
            return route.path_format
        path = scope["path"]
        return next((route.path_format for route in self._routes if route.path_regex.match(path)), NO_ROUTE)


def _headers(context: RequestContext) -> Iterable[tuple[bytes, bytes]]:
    yield REQUEST_ID_HEADER, context.request_id.encode()
    if context.execution_id is not None:
        yield _EXECUTION_ID_HEADER, context.execution_id.encode()
