"""``/v1/sessions/{id}/files``: the workspace of a session, also while code runs in it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask
from starlette.convertors import PathConvertor, register_url_convertor

from service.files.download_headers import download_headers
from service.files.media_types import OCTET_STREAM
from service.http.body_limit import declared_length, streams_body
from service.http.dependencies import MetricsDep, SettingsDep
from service.http.path_parameters import FilePath
from service.http.refusals import BODY, SESSION, refusals
from service.routes.schemas.workspace_files import (
    RenameRequest,
    WorkspaceFileInfo,
    WorkspaceFileList,
    WrittenFile,
)
from service.routes.sessions import SessionDep
from sessions.errors import FileTooLarge, InvalidPath, WorkspaceFileNotFound, WorkspaceFull
from sessions.kernels.errors import SupervisorFailed
from sessions.paths import check_path

_BYTES = {OCTET_STREAM: {"schema": {"type": "string", "format": "binary"}}}


class _AnyPath(PathConvertor):
    """A path that may contain line breaks, as file names may. Starlette's `path` stops at a line break."""

    regex = "(?s:.*)"


register_url_convertor("any", _AnyPath())

_FOLDER: Final = refusals(*SESSION, SupervisorFailed)
_FILE: Final = (*SESSION, SupervisorFailed, InvalidPath, WorkspaceFileNotFound)

router = APIRouter(prefix="/v1/sessions/{session_id}/files", tags=["sessions"], responses=refusals(*_FILE))


@router.get("", responses=_FOLDER)
async def list_files(session: SessionDep) -> WorkspaceFileList:
    """List all files, including those in subfolders and hidden files."""
    entries = await session.files.list_files()
    return WorkspaceFileList(
        files=[
            WorkspaceFileInfo(path=entry.path, size_bytes=entry.size_bytes, modified_at=entry.modified_at)
            for entry in entries
        ]
    )


@router.get(
    "/{path:any}",
    response_class=Response,
    responses={200: {"description": "The file's bytes.", "content": _BYTES}},
)
async def download_file(path: FilePath, session: SessionDep) -> Response:
    """Download the current content of a file."""
    plain = check_path(path)
    async with AsyncExitStack() as stack:
        content = await stack.enter_async_context(session.files.open_file(plain))
        first = await anext(content, b"")
        headers = _headers(plain)
        close = stack.pop_all().aclose
    return StreamingResponse(
        _joined(first, content), media_type=OCTET_STREAM, headers=headers, background=BackgroundTask(close)
    )


@router.head("/{path:any}", response_class=Response)
async def describe_file(path: FilePath, session: SessionDep) -> Response:
    """Return the size of a file, as the header `Content-Length`, without its bytes."""
    plain = check_path(path)
    entries = await session.files.list_files()
    size = next((entry.size_bytes for entry in entries if entry.path == plain), None)
    if size is None:
        raise WorkspaceFileNotFound(path)
    return Response(
        headers={**_headers(plain), "Content-Length": str(size)},
        media_type=OCTET_STREAM,
    )


def _headers(path: str) -> dict[str, str]:
    return download_headers(path.rpartition("/")[2])


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


@router.put(
    "/{path:any}",
    status_code=201,
    responses=refusals(*_FILE, FileTooLarge, WorkspaceFull),
    openapi_extra={"requestBody": {"required": True, "content": _BYTES}},
)
@streams_body
async def upload_file(
    path: FilePath, request: Request, session: SessionDep, settings: SettingsDep, metrics: MetricsDep
) -> WrittenFile:
    """Write the request body to a file. An existing file is replaced."""
    plain = check_path(path)
    limit = settings.storage.max_file_bytes
    size = 0

    async def content() -> AsyncIterator[bytes]:
        nonlocal size
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise FileTooLarge(limit)
            yield chunk

    if declared_length(request.scope) > limit:
        raise FileTooLarge(limit)
    try:
        await session.files.put_file(plain, content())
    except (SupervisorFailed, InvalidPath, WorkspaceFull, WorkspaceFileNotFound) as error:
        if size > limit:
            raise FileTooLarge(limit) from error
        raise
    metrics.uploaded("session", size)
    return WrittenFile(path=plain, size_bytes=size)


@router.delete("/{path:any}", status_code=204)
async def delete_file(path: FilePath, session: SessionDep) -> None:
    """Delete a file."""
    await session.files.delete_file(check_path(path))


@router.patch("/{path:any}", responses=refusals(*_FILE, *BODY, WorkspaceFull))
async def rename_file(path: FilePath, request: RenameRequest, session: SessionDep) -> WorkspaceFileInfo:
    """Move a file to a path that does not exist yet."""
    to = check_path(request.path)
    await session.files.rename_file(check_path(path), to)
    entries = await session.files.list_files()
    moved = next((entry for entry in entries if entry.path == to), None)
    if moved is None:
        raise WorkspaceFileNotFound(to)
    return WorkspaceFileInfo(path=to, size_bytes=moved.size_bytes, modified_at=moved.modified_at)
