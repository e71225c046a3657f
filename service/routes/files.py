"""``/v1/files``: upload, list, download, delete."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from service.database.errors import InvalidCursor
from service.files.download_headers import download_headers
from service.files.errors import InvalidFilename
from service.files.media_types import OCTET_STREAM
from service.files.store import OpenFile
from service.http.body_limit import streams_body
from service.http.dependencies import FilesDep, MetricsDep, OwnerDep
from service.http.downloads import FileResponse, matches, parse_range
from service.http.errors import RangeNotSatisfiable
from service.http.path_parameters import FileIdPath
from service.http.refusals import refusals
from service.http.uploads import FIELD, receive_upload
from service.routes.schemas.files import FileList, StoredFileInfo
from sessions.errors import FileDamaged, FileNotFound, FileTooLarge, StorageQuotaExceeded

_DOWNLOAD: Final = (FileNotFound, FileDamaged, RangeNotSatisfiable)

router = APIRouter(prefix="/v1/files", tags=["files"], responses=refusals())

_MULTIPART = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {
                        FIELD: {
                            "type": "string",
                            "format": "binary",
                            "description": "The file. Other fields are ignored.",
                        }
                    },
                }
            }
        },
    }
}
_PAGE: Final = 1000
"""Most files in one page of the list."""
_BYTES = {OCTET_STREAM: {"schema": {"type": "string", "format": "binary"}}}


@router.post(
    "",
    status_code=201,
    openapi_extra=_MULTIPART,
    responses=refusals(FileTooLarge, InvalidFilename, StorageQuotaExceeded),
)
@streams_body
async def upload_file(
    request: Request, files: FilesDep, owner: OwnerDep, metrics: MetricsDep
) -> StoredFileInfo:
    """Store a file, so that executions can use it."""
    async with receive_upload(request, files.max_bytes) as upload:
        stored = await files.save(upload.chunks(), upload.filename, owner=owner, media_type=upload.media_type)
    metrics.uploaded("store", stored.size_bytes)
    metrics.file_stored("upload", stored.size_bytes)
    return StoredFileInfo.of(stored)


@router.get("", responses=refusals(InvalidCursor))
async def list_files(
    files: FilesDep,
    owner: OwnerDep,
    limit: Annotated[int, Query(ge=1, le=_PAGE, description="Maximum number of files in a page.")] = _PAGE,
    after: Annotated[str | None, Query(description="`next` of the previous page.", max_length=200)] = None,
) -> FileList:
    """List the stored files, oldest first, in pages: send `next` of a page as `after` to get the next one."""
    page = await files.list_files(owner, limit, after)
    return FileList(files=[StoredFileInfo.of(stored) for stored in page.files], next=page.next)


@router.get(
    "/{file_id}",
    response_class=Response,
    responses={
        200: {"description": "The file's bytes.", "content": _BYTES},
        206: {"description": "The requested range of the file's bytes.", "content": _BYTES},
        304: {"description": "The client already has the file."},
        307: {"description": "Redirect to the object storage, if `FILE_STORAGE_LINK_SEC` is set."},
        **refusals(*_DOWNLOAD),
    },
)
async def download_file(file_id: FileIdPath, request: Request, files: FilesDep, owner: OwnerDep) -> Response:
    """Download a file. `Range`, `If-Range` and `If-None-Match` are supported; the ETag is the SHA-256."""
    link = await files.link(file_id, owner)
    if link is not None:
        return RedirectResponse(link, headers={"Cache-Control": "no-store"})
    file = await files.open(file_id, owner)
    try:
        return _download(file, request)
    except BaseException:
        file.close()
        raise


@router.head("/{file_id}", response_class=Response, responses=refusals(*_DOWNLOAD))
async def describe_file(file_id: FileIdPath, request: Request, files: FilesDep, owner: OwnerDep) -> Response:
    """Return the headers of a download without the file's bytes."""
    with await files.open(file_id, owner) as file:
        answer = _download(file, request)
        return Response(status_code=answer.status_code, headers=dict(answer.headers))


@router.delete("/{file_id}", status_code=204, responses=refusals(FileNotFound))
async def delete_file(file_id: FileIdPath, files: FilesDep, owner: OwnerDep) -> None:
    """Delete a file."""
    if not await files.delete(file_id, owner):
        raise FileNotFound(file_id)


def _download(file: OpenFile, request: Request) -> Response:
    stored = file.stored
    etag = f'"{stored.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        **download_headers(stored.filename),
        "Content-Type": OCTET_STREAM,
    }
    if matches(request.headers.get("if-none-match"), etag):
        file.close()
        return Response(status_code=304, headers=headers)
    wanted = None
    if request.headers.get("if-range", etag) == etag:
        wanted = parse_range(request.headers.get("range"), stored.size_bytes)
    start, end = wanted or (0, stored.size_bytes)
    headers["Content-Length"] = str(end - start)
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size_bytes}"
    return FileResponse(file, start, end, 206 if wanted else 200, headers)
