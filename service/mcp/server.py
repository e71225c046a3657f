"""The protocol's server: handlers for the requests of the protocol."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

import mcp_types as types
from mcp import MCPError
from mcp.server import Server
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from pydantic import ValidationError
from starlette.requests import Request

import service
from service.http.guard import caller_of
from service.mcp import content, resources
from service.mcp.catalogue import BY_NAME, TOOLS, Tool
from service.mcp.client_limits import ClientLimits
from service.mcp.content import Links
from service.mcp.conversation import Conversation
from service.mcp.services import McpServices
from service.mcp.tools import Call
from sessions.errors import CallFailed, SessionsError, TooManySessions
from sessions.session.session import Session
from sessions.tasks import BackgroundTasks

log = logging.getLogger(__name__)

Context = ServerRequestContext[Any, Any]

_INSTRUCTIONS: Final = """\
A sandbox with Python, a shell and a workspace, without a network. All calls of a conversation share \
one session. Variables and files are kept until the session has not been used for {minutes} minutes. The \
result of the next call then says that they are gone. To download the links in results, use the API key of \
this connection."""
_LINKS_SINCE: Final = "2025-06-18"
"""The first version of the protocol that has links as content."""
_CONVERSATION: Final = "conversation"
"""Key of the `Conversation` in the state of the SDK's connection."""


class Handlers:
    """Handles the requests of one owner's clients. Each session of the protocol has a `Conversation`."""

    def __init__(self, services: McpServices) -> None:
        self._services = services
        self._settings = services.settings
        self._tools = [tool.definition(self._settings) for tool in TOOLS]
        self._running = BackgroundTasks()

    def server(self) -> Server[Any]:
        """Return a server of the SDK with these handlers."""
        server = Server[Any](
            "code-interpreter",
            title="Code Interpreter",
            version=service.__version__,
            instructions=_INSTRUCTIONS.format(minutes=f"{self._settings.sessions.mcp_session_sec / 60:g}"),
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
        )
        server.middleware.append(ClientLimits())
        return server

    async def _list_tools(self, _: Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=self._tools)

    async def _call_tool(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool = BY_NAME.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name[:100]}")
        return await self._cancelling_once(self._run(tool, self._call(context), params.arguments or {}))

    async def _run(self, tool: Tool, call: Call, arguments: dict[str, Any]) -> types.CallToolResult:
        """Call a tool. Every error becomes a result with a text that a model can act on."""
        try:
            return await tool.run(call, tool.arguments.model_validate(arguments))
        except ValidationError as error:
            return content.failure(f"The arguments of {tool.name} are not valid: {_problems(error)}")
        except TooManySessions as error:
            return content.failure(
                f"No session can be opened now: {error.setting}={error.limit} sessions are already open. "
                "Try again in a minute, or tell the user."
            )
        except (CallFailed, SessionsError) as error:
            return content.failure(str(error))
        except Exception:
            log.exception("the tool %s failed", tool.name)
            return content.failure("The service failed; its log has the details. Trying again may help.")

    async def _cancelling_once(self, work: Coroutine[Any, Any, types.CallToolResult]) -> types.CallToolResult:
        """Await `work`, and cancel it once if the request is cancelled.

        The SDK would cancel it again wherever it waits while it ends.
        """
        task = self._running.start(work)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            raise
        return task.result()

    async def _list_resources(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        call = self._call(context)
        session: Session | None = await call.conversation.open_session(call.caller)
        return await resources.page(session, call.links, params.cursor if params else None)

    async def _list_templates(
        self, context: Context, _: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(resource_templates=resources.templates(_links(context)))

    async def _read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        owner = caller_of(_request(context).scope).owner
        return await resources.read(str(params.uri), owner, self._services.files, self._services.sessions)

    def _call(self, context: Context) -> Call:
        wanted = bool(context.meta) and "progress_token" in (context.meta or {})
        return Call(
            conversation=self._conversation(context),
            caller=caller_of(_request(context).scope),
            services=self._services,
            links=_links(context),
            report=context.session.report_progress if wanted else None,
        )

    def _conversation(self, context: Context) -> Conversation:
        # The SDK has no public access to the state of a connection and to its end yet.
        connection: Connection = context.session._connection  # noqa: SLF001
        known: Conversation | None = connection.state.get(_CONVERSATION)
        if known is None:
            known = Conversation(self._services.sessions, self._settings.sessions.mcp_session_sec)
            connection.state[_CONVERSATION] = known
            connection.exit_stack.push_async_callback(known.end)
        return known


def _request(context: Context) -> Request:
    """Return the HTTP request of a message."""
    request: Request | None = context.request
    assert request is not None
    return request


def _links(context: Context) -> Links:
    base_url = str(_request(context).base_url).rstrip("/")
    return Links(base_url, are_supported=context.protocol_version >= _LINKS_SINCE)


def _problems(error: ValidationError) -> str:
    """Return what is wrong with each argument. The given values are left out, as they may be large."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False)[:10]:
        # Optional arguments may be null, but the schema does not mention that.
        if problem["type"] != "none_required":
            where = f"{problem['loc'][0]}: "[:100] if problem["loc"] else ""
            is_unknown = problem["type"] == "extra_forbidden"
            problems.append(where + ("there is no such argument" if is_unknown else problem["msg"]))
    return "; ".join(problems)
