"""Limits on what the clients of one owner can make the service keep, as middleware of the SDK's server."""

from typing import Any, Final

from mcp import MCPError
from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp_types import INVALID_PARAMS, INVALID_REQUEST
from starlette.requests import Request

_MAX_KEPT_BYTES: Final = 1 << 20
"""Bytes of all `initialize` requests of an owner's conversations, which the SDK keeps until they end."""
_MAX_TOKEN_CHARACTERS: Final = 1000
"""Longest progress token. The token is part of every notification."""

Context = ServerRequestContext[Any, Any]


class ClientLimits:
    """Refuses requests that are over a limit. There is one object for each owner."""

    def __init__(self) -> None:
        self._kept_bytes = 0

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Carry out a request or notification. Raises ``MCPError`` if it is over a limit."""
        if len(str((ctx.meta or {}).get("progress_token", ""))) > _MAX_TOKEN_CHARACTERS:
            raise MCPError(
                INVALID_PARAMS, f"A progress token may have {_MAX_TOKEN_CHARACTERS} characters at most"
            )
        if ctx.method == "initialize":
            await self._keep(ctx)
        return await call_next(ctx)

    async def _keep(self, context: Context) -> None:
        """Count the request until the conversation ends."""
        connection: Connection = context.session._connection  # noqa: SLF001 - the SDK has no public access
        request: Request | None = context.request
        assert request is not None
        size = len(await request.body())
        if connection.initialize_accepted:
            raise MCPError(INVALID_REQUEST, "This session has begun already")
        if self._kept_bytes + size > _MAX_KEPT_BYTES:
            raise MCPError(
                INVALID_REQUEST,
                f"The `initialize` requests of this key's sessions have {_MAX_KEPT_BYTES} bytes: end one",
            )
        self._kept_bytes += size
        connection.exit_stack.callback(self._forget, size)

    def _forget(self, size: int) -> None:
        self._kept_bytes -= size
