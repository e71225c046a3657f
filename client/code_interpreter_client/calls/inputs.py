"""Files that code finds in its workspace."""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import httpx

from code_interpreter_client.calls.files import delete_file, file_id, upload
from code_interpreter_client.errors import CodeInterpreterError
from code_interpreter_client.http.exchange import Flow, Request
from code_interpreter_client.models.files import StoredFile
from code_interpreter_client.models.results import ResultFile

Inputs = Mapping[str, bytes | Path | StoredFile | ResultFile | str]
"""Maps paths in the workspace to content: bytes, a file on disk, a stored file, or the id of one."""


def with_files(files: Inputs | None, request: Request) -> Flow[httpx.Response]:
    """Send a request with its input files. Files that are uploaded for it are deleted afterwards."""
    inputs: list[dict[str, str]] = []
    uploaded: list[str] = []
    try:
        for path, content in (files or {}).items():
            if isinstance(content, bytes | Path):
                stored = yield from upload(content, name=Path(path).name)
                uploaded.append(stored.file_id)
                inputs.append({"path": path, "file_id": stored.file_id})
            else:
                inputs.append({"path": path, "file_id": file_id(content)})
        response = yield _with_inputs(request, inputs)
    except CodeInterpreterError:
        yield from _delete_all(uploaded)
        raise
    yield from _delete_all(uploaded)
    return response


def _with_inputs(request: Request, inputs: list[dict[str, str]]) -> Request:
    return replace(request, json={**request.json, "files": inputs}) if inputs else request


def _delete_all(file_ids: list[str]) -> Flow[None]:
    for uploaded in file_ids:
        # A file that cannot be deleted now expires later.
        with contextlib.suppress(CodeInterpreterError):
            yield from delete_file(uploaded)
