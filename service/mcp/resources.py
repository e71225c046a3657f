"""Files as resources of the protocol. Their URIs are the addresses at which the HTTP API serves them."""

import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final
from urllib.parse import unquote, urlsplit

import mcp_types as types
from mcp import MCPError

from service.files.media_types import OCTET_STREAM, guess_media_type
from service.files.store import FileStore
from service.mcp.content import Links
from sessions.errors import CallFailed, FileNotFound, SessionsError
from sessions.manager.manager import SessionManager
from sessions.paths import check_path
from sessions.session.session import Session

MAX_BYTES: Final = 512 * 1024
"""Largest resource that can be read: encoded in base64 it fits into one event of a stream."""
_MAX_JSON_CHARACTERS: Final = 2 * MAX_BYTES - 100_000
"""Longest text as JSON; control characters take six characters each."""
_PAGE_SIZE: Final = 500
_NOT_FOUND: Final = -32002
"""The protocol's error code for an unknown resource."""

_STORED: Final = re.compile(r"/v1/files/([^/]+)")
_IN_SESSION: Final = re.compile(r"/v1/sessions/([^/]+)/files/(.+)", re.DOTALL)


def templates(links: Links) -> list[types.ResourceTemplate]:
    """Return the templates of the resources' URIs."""
    return [
        types.ResourceTemplate(
            name="stored file",
            uri_template=f"{links.base_url}/v1/files/{{file_id}}",
            description="A file that was uploaded or that code created.",
        ),
        types.ResourceTemplate(
            name="file of a session",
            uri_template=f"{links.base_url}/v1/sessions/{{session_id}}/files/{{+path}}",
            description="A file in the workspace of a session, as it is now.",
        ),
    ]


async def page(session: Session | None, links: Links, cursor: str | None) -> types.ListResourcesResult:
    """Return a page of the files in a session's workspace.

    Args:
        session: None if the conversation has no session yet; the page is then empty.
        links: makes the URIs.
        cursor: the `next_cursor` of the page before; None for the first page.

    Raises:
        MCPError: the cursor is invalid.
    """
    if cursor is not None and not re.fullmatch(r"[0-9]{1,9}", cursor):
        raise MCPError(types.INVALID_PARAMS, "The cursor is not valid: use the next_cursor of the last page.")
    start = int(cursor or "0")
    entries = [] if session is None else await session.files.list_files()
    shown = entries[start : start + _PAGE_SIZE]
    return types.ListResourcesResult(
        resources=[
            types.Resource(
                name=entry.path,
                uri=links.workspace_file(session.session_id, entry.path),
                mime_type=guess_media_type(entry.path),
                size=entry.size_bytes,
            )
            for entry in shown
            if session is not None
        ],
        next_cursor=str(start + _PAGE_SIZE) if start + _PAGE_SIZE < len(entries) else None,
    )


async def read(uri: str, owner: str, files: FileStore, sessions: SessionManager) -> types.ReadResourceResult:
    """Return the content of an owner's file. Raises ``MCPError`` if there is none or it is too large."""
    try:
        data, media_type = await _content(_path(uri), owner, files, sessions)
    except (CallFailed, SessionsError) as error:
        raise MCPError(_NOT_FOUND, str(error), {"uri": uri[:500]}) from error
    if data is None:
        raise MCPError(
            types.INVALID_PARAMS,
            f"The file has more than {MAX_BYTES} bytes and cannot be read this way: get it by HTTP, with the "
            "same API key.",
            {"uri": uri[:500]},
        )
    return types.ReadResourceResult(contents=[_contents(uri, data, media_type)])


def _path(uri: str) -> str:
    """Return the path of a URI. The host is ignored, as a service may have several names."""
    try:
        return unquote(urlsplit(uri).path)
    except ValueError:
        return ""


async def _content(
    path: str, owner: str, files: FileStore, sessions: SessionManager
) -> tuple[bytes | None, str]:
    """Return the bytes of a file, or None if they are over `MAX_BYTES`, and its media type."""
    async with AsyncExitStack() as stack:
        if found := _STORED.fullmatch(path):
            file = stack.enter_context(await files.open(found[1], owner))
            return await _bounded(file.chunks()), file.stored.media_type
        if found := _IN_SESSION.fullmatch(path):
            session = await sessions.get(found[1], owner)
            name = check_path(found[2])
            chunks = await stack.enter_async_context(session.files.open_file(name))
            return await _bounded(chunks), guess_media_type(name)
    raise FileNotFound(path[:200])


async def _bounded(chunks: AsyncIterator[bytes]) -> bytes | None:
    data = bytearray()
    async for chunk in chunks:
        data += chunk
        if len(data) > MAX_BYTES:
            return None
    return bytes(data)


def _contents(
    uri: str, data: bytes, media_type: str
) -> types.TextResourceContents | types.BlobResourceContents:
    if media_type.startswith("text/") or media_type == OCTET_STREAM or "json" in media_type:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = "\0"
        # Some text is longer as JSON than as base64.
        if "\0" not in text and len(json.dumps(text, ensure_ascii=False)) <= _MAX_JSON_CHARACTERS:
            return types.TextResourceContents(uri=uri, mime_type=media_type, text=text)
    return types.BlobResourceContents(uri=uri, mime_type=media_type, blob=base64.b64encode(data).decode())
