"""JSON bodies of the files in the workspace of a session. Times are seconds since the epoch."""

from typing import Annotated

from pydantic import BaseModel, Field

from service.http.values import Text

_TIME = 1_767_225_600.25

WorkspacePath = Annotated[
    str, Field(description="Path of the file in the workspace.", examples=["data/sales.csv"])
]
SizeBytes = Annotated[int, Field(description="Size of the file, in bytes.", examples=[18_204])]


class WorkspaceFileInfo(BaseModel):
    """A file in the workspace of a session."""

    path: WorkspacePath
    size_bytes: SizeBytes
    modified_at: float = Field(description="When the file was last changed.", examples=[_TIME])


class WorkspaceFileList(BaseModel):
    """The files in the workspace of a session and in its subfolders."""

    files: list[WorkspaceFileInfo] = Field(description="The files, sorted by path.")


class WrittenFile(BaseModel):
    """A file that was written to the workspace of a session."""

    path: WorkspacePath
    size_bytes: SizeBytes


class RenameRequest(BaseModel):
    """The new path of a file."""

    path: Text = Field(
        description="New path in the workspace. Missing folders are created.",
        examples=["data/old/sales.csv"],
    )
