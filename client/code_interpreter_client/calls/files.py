"""Stored files."""

from pathlib import Path

from code_interpreter_client.calls import paths
from code_interpreter_client.http.exchange import Flow, Progress, Request, answer
from code_interpreter_client.http.sources import Sendable, Source
from code_interpreter_client.local_paths import path_beneath
from code_interpreter_client.models.files import FileList, StoredFile
from code_interpreter_client.models.results import Result, ResultFile

AnyFile = str | StoredFile | ResultFile
"""A stored file, or its id."""

_PAGE = 1000


def upload(source: Sendable, *, name: str | None = None) -> Flow[StoredFile]:
    """Store a file: bytes, a path, or a file open for reading bytes. It is sent in chunks."""
    request = Request("POST", "v1/files", form_file=Source.of(source, name))
    return (yield from answer(StoredFile, request))


def list_files() -> Flow[list[StoredFile]]:
    """Return all stored files, oldest first."""
    found: list[StoredFile] = []
    after: dict[str, str | int] = {}
    while True:
        request = Request("GET", "v1/files", params={"limit": _PAGE, **after}, repeatable=True)
        page = yield from answer(FileList, request)
        found += page.files
        if page.next is None:
            return found
        after = {"after": page.next}


def read_file(file: AnyFile) -> Flow[bytes]:
    """Return the content of a stored file. Raises `FileNotFound` or `FileDamaged`."""
    response = yield Request("GET", paths.stored_file(file_id(file)), repeatable=True)
    return response.content


def download_file(file: AnyFile, to: str | Path, *, progress: Progress | None = None) -> Flow[Path]:
    """Write a stored file to the path `to` and return that. The file appears there once it is complete.

    `progress(received_bytes, total_bytes)` is called while it is received.
    """
    return (yield from download(paths.stored_file(file_id(file)), Path(to), progress))


def save_files(result: Result, folder: str | Path) -> Flow[list[Path]]:
    """Write all files of a result beneath `folder`, which is created, and return their paths.

    Raises:
        ValueError: the path of a file leads out of the folder.
    """
    saved = []
    for file in result.files:
        saved.append((yield from download_file(file, path_beneath(Path(folder), file.path))))  # noqa: PERF401
    return saved


def delete_file(file: AnyFile) -> Flow[None]:
    """Delete a stored file. Raises `FileNotFound`."""
    yield Request("DELETE", paths.stored_file(file_id(file)), repeatable=True)


def download(path: str, target: Path, progress: Progress | None) -> Flow[Path]:
    """Write what is at a path of the API to the file `target`."""
    yield Request("GET", path, repeatable=True, into=target, progress=progress)
    return target


def file_id(file: AnyFile) -> str:
    """Return the id of a stored file."""
    return file if isinstance(file, str) else file.file_id
