"""The tools: each function carries out one call and returns its result."""

import base64
import binascii
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import mcp_types as types

from service.files.media_types import guess_media_type
from service.mcp import content
from service.mcp.arguments import ListFiles, ReadFile, Reset, RunPython, RunShell, WriteFile
from service.mcp.content import Links
from service.mcp.conversation import Conversation
from service.mcp.progress import Report, reporting
from service.mcp.services import McpServices
from service.settings import Settings
from sessions.errors import FileTooLarge, WorkspaceFileNotFound
from sessions.executions.request import ExecutionRequest
from sessions.executions.staging import Input
from sessions.models import Caller, OutputChunk
from sessions.paths import check_path
from sessions.session.session import Session
from sessions.session.shell_command import DEFAULT_COMMAND_MS, CommandRequest

Result = types.CallToolResult

_MAX_LISTED: Final = 1000
"""Files in the result of list_files."""


@dataclass(frozen=True)
class Call:
    """The context of one call of a tool; `report` sends progress, and is None if the client wants none."""

    conversation: Conversation
    caller: Caller
    services: McpServices
    links: Links
    report: Report | None

    @property
    def settings(self) -> Settings:
        """The settings of the service."""
        return self.services.settings


async def run_python(call: Call, given: RunPython) -> Result:
    """Run a cell, and report its output while it runs."""
    limit_ms = call.settings.execution.session_exec_timeout_ms
    timeout_ms = limit_ms if given.timeout_seconds is None else max(1, round(given.timeout_seconds * 1000))
    if timeout_ms > limit_ms:
        return _too_long(limit_ms)
    request = ExecutionRequest(code=given.code, timeout_ms=timeout_ms)
    session, note = await call.conversation.session(call.caller, timeout_ms / 1000)
    cell = await session.cells.execute(request)
    try:
        async with reporting(call.report, timeout_ms / 1000) as progress:
            async for event in cell.follow():
                if isinstance(event, OutputChunk):
                    progress.add(event.text)
    finally:
        if not cell.is_over:
            session.cells.abandon(cell)
    return content.of_execution(cell.gathered(), call.links, note)


async def run_shell(call: Call, given: RunShell) -> Result:
    """Run a shell command."""
    limit_ms = call.settings.execution.session_exec_timeout_ms
    timeout_ms = min(DEFAULT_COMMAND_MS, limit_ms)
    if given.timeout_seconds is not None:
        timeout_ms = max(1, round(given.timeout_seconds * 1000))
    if timeout_ms > limit_ms:
        return _too_long(limit_ms)
    request = CommandRequest(given.command, timeout_ms)
    session, note = await call.conversation.session(call.caller, timeout_ms / 1000)
    async with reporting(call.report, timeout_ms / 1000):
        return content.of_command(await session.run_command(request), note)


def _too_long(limit_ms: int) -> Result:
    return content.failure(
        f"timeout_seconds is at most {limit_ms / 1000:g}. Nothing has run. Divide longer work into several "
        "calls, as variables and files are kept."
    )


async def list_files(call: Call, _: ListFiles) -> Result:
    """List the files in the workspace."""
    session, note = await call.conversation.session(call.caller)
    entries = await session.files.list_files()
    files = [
        {
            "path": entry.path,
            "size_bytes": entry.size_bytes,
            "url": call.links.workspace_file(session.session_id, entry.path),
        }
        for entry in entries[:_MAX_LISTED]
    ]
    lines = [note] if note else []
    lines += [f"{entry.path} ({entry.size_bytes} bytes)" for entry in entries[:_MAX_LISTED]]
    if len(entries) > _MAX_LISTED:
        lines.append(f"[and {len(entries) - _MAX_LISTED} more files]")
    if not entries:
        lines.append("The workspace is empty.")
    return Result(
        content=[content.text("\n".join(lines))],
        structured_content={"files": files, "left_out": len(entries) - len(files)},
    )


async def read_file(call: Call, given: ReadFile) -> Result:
    """Read a file in the workspace: return text, an image, or a link to any other file."""
    session, note = await call.conversation.session(call.caller)
    path = check_path(given.path)
    entries = await session.files.list_files()
    size = next((entry.size_bytes for entry in entries if entry.path == path), None)
    if size is None:
        raise WorkspaceFileNotFound(given.path)
    uri = call.links.workspace_file(session.session_id, path)
    media_type = guess_media_type(path)
    max_bytes = (
        content.MAX_IMAGES_BYTES * 3 // 4
        if media_type.startswith("image/")
        else 4 * content.MAX_TEXT_CHARACTERS
    )
    head, whole = await _head(session, path, max_bytes)
    blocks: list[types.ContentBlock] = [content.text(note)] if note else []
    picture = content.image(base64.b64encode(head).decode(), media_type) if whole else None
    printed = None if picture else _as_text(head, whole)
    if picture is not None:
        blocks.append(picture)
    elif printed is not None:
        blocks.append(content.text(printed))
        if not whole:
            blocks.append(
                content.text(f"[only the beginning: the file has {size} bytes; read other parts with code]")
            )
    else:
        blocks.append(content.text(f"[{path} has {size} bytes that cannot be shown here: {uri}]"))
    if call.links.are_supported:
        blocks.append(content.link(uri, path, size))
    return Result(content=blocks)


async def _head(session: Session, path: str, max_bytes: int) -> tuple[bytes, bool]:
    """Return the first bytes of a file, and whether they are the whole file."""
    head = bytearray()
    async with session.files.open_file(path) as chunks:
        async for chunk in chunks:
            head += chunk
            if len(head) > max_bytes:
                return bytes(head[:max_bytes]), False
    return bytes(head), True


def _as_text(head: bytes, whole: bool) -> str | None:
    """Return the bytes as text, or None if they are not UTF-8.

    Args:
        head: the first bytes of a file.
        whole: whether they are the whole file. If not, the last character may be incomplete, and is left out.
    """
    if b"\0" in head:
        return None
    try:
        return head.decode()
    except UnicodeDecodeError as error:
        if whole or error.start < len(head) - 3:
            return None
        return head[: error.start].decode()


async def write_file(call: Call, given: WriteFile) -> Result:
    """Write a file into the workspace."""
    sources = [source for source in (given.text, given.base64, given.file_id) if source is not None]
    if len(sources) != 1:
        return content.failure("Give exactly one of text, base64 and file_id. Nothing was written.")
    path = check_path(given.path)
    data = b""
    if given.text is not None:
        data = given.text.encode()
    elif given.base64 is not None:
        try:
            data = base64.b64decode("".join(given.base64.split()), validate=True)
        except (binascii.Error, ValueError):
            return content.failure("The argument base64 is not valid base64. Nothing was written.")
    if len(data) > call.settings.storage.max_file_bytes:
        raise FileTooLarge(call.settings.storage.max_file_bytes)
    session, note = await call.conversation.session(call.caller)
    if given.file_id is not None:
        owner = call.caller.owner
        size = (await call.services.files.get(given.file_id, owner)).size_bytes
        await call.services.staging.put(session.files, [Input(path, given.file_id, size)], owner)
    else:
        size = len(data)
        await session.files.put_file(path, _once(data))
    call.services.metrics.uploaded("session", size)
    uri = call.links.workspace_file(session.session_id, path)
    message = f"Wrote {path}, {size} bytes."
    return Result(
        content=[content.text(f"{note}\n{message}" if note else message)],
        structured_content={"path": path, "size_bytes": size, "url": uri},
    )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def reset(call: Call, given: Reset) -> Result:
    """Start a new kernel, or delete the session if files are to be deleted, too."""
    if given.delete_files:
        await call.conversation.end()
        return Result(
            content=[content.text("Variables and files are gone. The next call starts a new session.")]
        )
    session = await call.conversation.open_session(call.caller)
    if session is None:
        return Result(
            content=[content.text("There is nothing to reset: the next call starts a new session.")]
        )
    await session.restart()
    return Result(content=[content.text("A new kernel is ready. Variables are gone, files are kept.")])
