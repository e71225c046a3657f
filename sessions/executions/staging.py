"""Inputs: the stored files that a call names, copied into the workspace before the code runs."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sessions.errors import FileNotFound, InputNotFound, InvalidPath, WorkspaceFileNotFound
from sessions.executions.request import InputFile
from sessions.paths import check_paths
from sessions.ports import Recorder, StoredFiles

_TAKEN: Final = "can't be used: it is taken, or needs a file to be a folder"


@dataclass(frozen=True)
class Input:
    """A stored file of the caller, and its path in the workspace."""

    path: str
    file_id: str
    size_bytes: int


class Workspace(Protocol):
    """Takes the inputs: a sandbox, or the files of a session."""

    async def put_file(self, path: str, content: AsyncIterator[bytes]) -> None:
        """Write a file. Raises `WorkspaceFull`, `InvalidPath` or `WorkspaceFileNotFound`."""


class Staging:
    """Finds inputs in the file store and copies them into workspaces."""

    def __init__(self, files: StoredFiles) -> None:
        self._files = files

    async def find(self, files: Sequence[InputFile], owner: str) -> list[Input]:
        """Return the owner's files that a call names, with normalised paths.

        Raises:
            InvalidPath: a path is not allowed, or two collide.
            InputNotFound: the owner has no such file.
        """
        inputs = []
        for path, file in zip(check_paths(file.path for file in files), files, strict=True):
            try:
                stored = await self._files.get(file.file_id, owner)
            except FileNotFound as error:
                raise InputNotFound(file.file_id, path) from error
            inputs.append(Input(path, file.file_id, stored.size_bytes))
        return inputs

    async def find_for(self, recorder: Recorder, files: Sequence[InputFile]) -> list[Input]:
        """Find the inputs of an execution, and record their number and size. Errors as `find`."""
        inputs = await self.find(files, recorder.owner)
        recorder.has_inputs(len(inputs), sum(found.size_bytes for found in inputs))
        return inputs

    async def put_for(self, recorder: Recorder, workspace: Workspace, inputs: Sequence[Input]) -> None:
        """Copy the inputs of an execution, and record how long that took. Errors as `put`."""
        if inputs:
            with recorder.timeline.during("stage"):
                await self.put(workspace, inputs, recorder.owner)

    async def put(self, workspace: Workspace, inputs: Sequence[Input], owner: str) -> None:
        """Copy the inputs into the workspace.

        Raises:
            InvalidPath, WorkspaceFull, InputNotFound: the request is at fault.
            FileDamaged, StorageFailed: the storage is at fault.
            SupervisorFailed: the container is at fault.
        """
        for given in inputs:
            try:
                file = await self._files.open(given.file_id, owner)
            except FileNotFound as error:
                raise InputNotFound(given.file_id, given.path) from error
            try:
                with file:
                    await workspace.put_file(given.path, file.chunks())
            except (InvalidPath, WorkspaceFileNotFound) as error:
                raise InvalidPath(given.path, _TAKEN) from error
