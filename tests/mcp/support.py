"""Messages of the protocol, and the parts of results."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp import Client
from mcp.types import CallToolResult, ImageContent, ResourceLink, TextContent

from tests.support.process import Service

INITIALIZE: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "tests", "version": "1"},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def message(method: str, request_id: int | str = 1, **params: Any) -> dict[str, Any]:
    """Return a request of the protocol."""
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def tool_call(name: str, request_id: int | str = 1, **arguments: Any) -> dict[str, Any]:
    """Return a request that calls a tool."""
    return message("tools/call", request_id, name=name, arguments=arguments)


def text(result: CallToolResult) -> str:
    """Return all text of a result."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def images(result: CallToolResult) -> list[bytes]:
    """Return the images of a result."""
    return [base64.b64decode(block.data) for block in result.content if isinstance(block, ImageContent)]


def links(result: CallToolResult) -> dict[str, str]:
    """Return the links of a result: name to address."""
    return {block.name: block.uri for block in result.content if isinstance(block, ResourceLink)}


async def python(client: Client, code: str, **arguments: Any) -> CallToolResult:
    """Run code with run_python."""
    return await client.call_tool("run_python", {"code": code, **arguments})


async def printed(client: Client, code: str, **arguments: Any) -> str:
    """Run code that must succeed, and return the text of the result."""
    result = await python(client, code, **arguments)
    assert not result.is_error, text(result)
    return text(result)


@asynccontextmanager
async def conversation(service: Service) -> AsyncIterator[Client]:
    """A conversation that ends with the block."""
    async with Client(f"{service.base_url}/mcp", read_timeout_seconds=60) as client:
        yield client
