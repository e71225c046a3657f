"""A line for each request, written when its answer has left: nobody waits for it."""

import logging
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.guard import key_name

log = logging.getLogger(__name__)


class AccessLog:
    """ASGI middleware: who asked for what, with the name of the key, and the status of the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or not log.isEnabledFor(logging.INFO):
            await self._app(scope, receive, send)
            return
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = 101
                # It may last for days.
                _note(scope, status)
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            if status != 101:
                _note(scope, status)


def _note(scope: Scope, status: int) -> None:
    """Without the query, which may have a key."""
    client = scope.get("client") or ("-", 0)
    method = scope.get("method", "WEBSOCKET")
    log.info('%s:%d %s "%s %s" %d', *client, key_name(scope), method, quote(scope["path"]), status)
