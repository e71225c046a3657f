"""Files in the workspace of a session."""

from pathlib import Path

from code_interpreter_client.calls import paths
from code_interpreter_client.calls.files import download
from code_interpreter_client.http.exchange import Flow, Progress, Request, answer
from code_interpreter_client.http.sources import Sendable, Source
from code_interpreter_client.models.files import WorkspaceFile, WorkspaceFileList


def list_files(session_id: str) -> Flow[list[WorkspaceFile]]:
    """Return all files in the workspace, sorted by path."""
    request = Request("GET", f"{paths.session(session_id)}/files", repeatable=True)
    listed = yield from answer(WorkspaceFileList, request)
    return list(listed.files)


def read_file(session_id: str, path: str) -> Flow[bytes]:
    """Return the current content of a file. Raises `FileNotFound`."""
    response = yield Request("GET", paths.workspace_file(session_id, path), repeatable=True)
    return response.content


def download_file(
    session_id: str, path: str, to: str | Path, *, progress: Progress | None = None
) -> Flow[Path]:
    """Write a file to the local path `to` and return that. The file appears there once it is complete."""
    return (yield from download(paths.workspace_file(session_id, path), Path(to), progress))


def upload(session_id: str, path: str, source: Sendable) -> Flow[WorkspaceFile]:
    """Write a file, or replace it: bytes, a path, or an open file. It is sent in chunks."""
    target = paths.workspace_file(session_id, path)
    request = Request("PUT", target, body=Source.of(source, path), repeatable=True)
    return (yield from answer(WorkspaceFile, request))


def delete_file(session_id: str, path: str) -> Flow[None]:
    """Delete a file. Raises `FileNotFound`."""
    yield Request("DELETE", paths.workspace_file(session_id, path), repeatable=True)


def rename_file(session_id: str, path: str, to: str) -> Flow[WorkspaceFile]:
    """Move a file to a path where no file is."""
    request = Request("PATCH", paths.workspace_file(session_id, path), json={"path": to})
    return (yield from answer(WorkspaceFile, request))
