"""The protocol's server: each of its requests, handed to what does it."""

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
from service.mcp.content import Links
from service.mcp.conversation import Conversation
from service.mcp.tools import Call
from sessions.errors import CallFailed, SessionsError, TooManySessions
from sessions.executions.one_shot import OneShotExecutor
from sessions.manager import SessionManager
from sessions.session import Session
from sessions.tasks import BackgroundTasks

log = logging.getLogger(__name__)

Context = ServerRequestContext[Any, Any]

_INSTRUCTIONS: Final = """\
A sandbox with Python, a shell and a working folder, without a network. All calls of a conversation share \
one session: variables and files stay until it has not been used for {minutes} minutes; the answer to the \
next call says so then. Links in results are downloaded with the API key of this connection."""
_LINKS_SINCE: Final = "2025-06-18"
"""The version of the protocol that has links as content."""
_CONVERSATION: Final = "conversation"


class Handlers:
    """The protocol's requests. Each of its sessions is a `Conversation`, which ends with it."""

    def __init__(self, sessions: SessionManager, executor: OneShotExecutor) -> None:
        self._sessions = sessions
        self._executor = executor
        self._settings = executor.stores.settings
        self._tools = [tool.definition(self._settings) for tool in TOOLS]
        self._ending = BackgroundTasks()

    def server(self) -> Server[Any]:
        """A server of the SDK with these handlers."""
        return Server(
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

    async def _list_tools(self, _: Context, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=self._tools)

    async def _call_tool(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool = BY_NAME.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name[:100]}")
        return await self._uncancelled(self._run(tool, self._call(context), params.arguments or {}))

    async def _run(self, tool: Tool, call: Call, arguments: dict[str, Any]) -> types.CallToolResult:
        """Whatever goes wrong is said in words that a model can act on."""
        try:
            return await tool.run(call, tool.arguments.model_validate(arguments))
        except ValidationError as error:
            return content.failure(f"The arguments of {tool.name} are not right: {_problems(error)}")
        except TooManySessions as error:
            return content.failure(
                f"No session can be opened now: {error.setting}={error.limit} are open already. "
                "Try again in a minute, or tell the user."
            )
        except (CallFailed, SessionsError) as error:
            return content.failure(str(error))
        except Exception:
            log.exception("the tool %s failed", tool.name)
            return content.failure("The service failed; its log says more. Trying again may help.")

    async def _uncancelled(self, work: Coroutine[Any, Any, types.CallToolResult]) -> types.CallToolResult:
        """Cancel `work` once when the request is cancelled; the SDK would again wherever it waits then."""
        task = self._ending.start(work)
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
        return await resources.read(str(params.uri), owner, self._executor.stores.files, self._sessions)

    def _call(self, context: Context) -> Call:
        wanted = bool(context.meta) and "progress_token" in (context.meta or {})
        return Call(
            conversation=self._conversation(context),
            caller=caller_of(_request(context).scope),
            executor=self._executor,
            links=_links(context),
            report=context.session.report_progress if wanted else None,
        )

    def _conversation(self, context: Context) -> Conversation:
        # The SDK hands out the connection's state and its end in no other way yet.
        connection: Connection = context.session._connection  # noqa: SLF001
        known: Conversation | None = connection.state.get(_CONVERSATION)
        if known is None:
            known = Conversation(self._sessions, self._settings.sessions.mcp_session_sec)
            connection.state[_CONVERSATION] = known
            connection.exit_stack.push_async_callback(known.end)
        return known


def _request(context: Context) -> Request:
    """The HTTP request that a message came with."""
    request: Request | None = context.request
    assert request is not None
    return request


def _links(context: Context) -> Links:
    base_url = str(_request(context).base_url).rstrip("/")
    return Links(base_url, known=context.protocol_version >= _LINKS_SINCE)


def _problems(error: ValidationError) -> str:
    """What is wrong with which argument; not what was given, which may be anything."""
    told = []
    for problem in error.errors(include_url=False, include_input=False)[:10]:
        # The second of two kinds that an argument may be of is null, of which nobody is told.
        if problem["type"] != "none_required":
            where = f"{problem['loc'][0]}: "[:100] if problem["loc"] else ""
            is_unknown = problem["type"] == "extra_forbidden"
            told.append(where + ("there is no such argument" if is_unknown else problem["msg"]))
    return "; ".join(told)
