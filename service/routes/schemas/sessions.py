"""JSON bodies of sessions. Times are seconds since the epoch."""

from dataclasses import asdict
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from service.http.values import EXECUTION_ID, FILE_ID, CellId, Integer, SessionId, ShellCommand, Text
from service.routes.schemas.execute import MAX_INPUT_FILES, ExecuteRequest, ExecuteResponse, InputFile
from sessions.models import DEFAULT_TTL_SEC, MAX_TTL_SEC
from sessions.records import CellRecord, CellState, Removed, SessionRecord
from sessions.session.shell_command import CommandRequest, CommandResult

_TIME = 1_767_225_600.25

WorkspacePath = Annotated[
    str, Field(description="Path of the file in the workspace.", examples=["data/sales.csv"])
]
SizeBytes = Annotated[int, Field(description="Size of the file, in bytes.", examples=[18_204])]


# The session


class CreateSessionRequest(BaseModel):
    """The lifetime and the input files of a new session."""

    ttl_seconds: Integer = Field(
        DEFAULT_TTL_SEC,
        ge=1,
        le=MAX_TTL_SEC,
        description="Lifetime of the session, in seconds.",
        examples=[900],
    )
    files: list[InputFile] = Field(
        default_factory=list,
        max_length=MAX_INPUT_FILES,
        description="Stored files to copy into the workspace.",
        examples=[[{"path": "data/sales.csv", "file_id": FILE_ID}]],
    )


class ExtendSessionRequest(BaseModel):
    """The remaining lifetime of a session."""

    ttl_seconds: Integer = Field(
        ge=1, le=MAX_TTL_SEC, description="Seconds from now until the session expires.", examples=[900]
    )


class SessionInfo(BaseModel):
    """An open session."""

    session_id: SessionId
    created_at: float = Field(description="When the session was created.", examples=[_TIME])
    expires_at: float = Field(
        description="When the session expires, even if it is in use.", examples=[_TIME + 900]
    )
    idle_expires_at: float | None = Field(
        description="When the session ends if it is not used; null: there is no such limit.", examples=[None]
    )
    last_used_at: float = Field(description="When the session was last used.", examples=[_TIME + 60])
    state: Literal["ready", "busy"] = Field(description="`busy`: code is running.", examples=["ready"])
    execution_count: int = Field(
        description="Execution count of the kernel, as shown in a notebook. A restart sets it to 0.",
        examples=[3],
    )

    @classmethod
    def of(cls, session: SessionRecord, *, idle_sec: float, busy: bool, execution_count: int) -> Self:
        """Return the wire form of a session; an ``idle_sec`` of 0 means no limit."""
        return cls(
            session_id=session.session_id,
            created_at=session.created_at,
            expires_at=session.expires_at,
            idle_expires_at=session.last_used_at + idle_sec if idle_sec else None,
            last_used_at=session.last_used_at,
            state="busy" if busy else "ready",
            execution_count=execution_count,
        )


class SessionList(BaseModel):
    """The open sessions, oldest first."""

    sessions: list[SessionInfo] = Field(description="The open sessions.")


# Executions in a session


class SessionExecuteRequest(ExecuteRequest):
    """Python code to run in the kernel of a session."""

    detach: StrictBool = Field(
        False,
        description="Let the code run on when the caller disconnects. Without streaming, respond at once "
        "with the cell id. The result is then at `cells/{cell_id}`.",
        examples=[False],
    )
    allow_stdin: StrictBool = Field(
        False,
        description="With streaming, `input()` sends an event `input_request`. The caller then posts the "
        "line of input.",
        examples=[False],
    )


class ExecuteAnywhereRequest(SessionExecuteRequest):
    """Python code to run in its own kernel, or in the kernel of a session."""

    session_id: Text | None = Field(
        None,
        description="Id of the session to run in; null: run in a fresh kernel.",
        examples=[None],
    )


class Detached(BaseModel):
    """The ids of code that runs detached from the call."""

    cell_id: CellId
    execution_id: str = Field(description="Id of this execution.", examples=[EXECUTION_ID])


class InputReply(BaseModel):
    """The line of input that the code waits for."""

    value: Text = Field(description="One line of text, without a line break at the end.", examples=["Ada"])


class BashRequest(BaseModel):
    """A shell command to run in the workspace of a session."""

    cmd: ShellCommand = Field(
        description="Command to run with `bash -c`.", examples=["ls -l data && wc -l data/*.csv"]
    )
    timeout_ms: Integer = Field(30_000, ge=1, description="Time limit, in milliseconds.", examples=[30_000])

    def to_domain(self) -> CommandRequest:
        """Convert the request to the type of the domain."""
        return CommandRequest(self.cmd, self.timeout_ms)


class BashResponse(BaseModel):
    """The result of a shell command."""

    stdout: str = Field(description="Standard output.", examples=["120 data/sales.csv\n"])
    stderr: str = Field(description="Standard error.", examples=[""])
    exit_code: int | None = Field(
        description="Exit status; 128 + n after signal n; null after a timeout.", examples=[0]
    )
    timed_out: bool = Field(
        description="Whether the command was stopped after `timeout_ms`.", examples=[False]
    )
    duration_ms: int = Field(description="Duration of the command, in milliseconds.", examples=[8])
    execution_id: str = Field(description="Id of this execution.", examples=[EXECUTION_ID])
    notice: str = Field(
        "",
        description="What was done between the calls to processes that earlier calls left behind and that "
        "used more CPU time than `IDLE_CPU_SEC`; empty if nothing was done.",
        examples=[""],
    )

    @classmethod
    def of(cls, result: CommandResult) -> Self:
        """Return the wire form of the result of a shell command."""
        return cls(**asdict(result))


# Completion and inspection


class CompleteRequest(BaseModel):
    """Python code and the position of the cursor in it, for completion.

    Positions count Unicode characters, not bytes or UTF-16 units.
    """

    code: Text = Field(description="Python source, which may be incomplete.", examples=["import os\nos.pa"])
    cursor_pos: Integer | None = Field(
        None,
        ge=0,
        description="Number of characters before the cursor; null: the cursor is at the end.",
        examples=[15],
    )

    @model_validator(mode="after")
    def _cursor_is_inside(self) -> Self:
        if self.cursor_pos is not None and self.cursor_pos > len(self.code):
            raise ValueError("cursor_pos is behind the end of the code")
        return self

    @property
    def cursor(self) -> int:
        """The number of characters before the cursor."""
        return len(self.code) if self.cursor_pos is None else self.cursor_pos


class CompleteResponse(BaseModel):
    """Completions at the cursor. They are also empty if the kernel did not respond in time."""

    model_config = ConfigDict(from_attributes=True)

    matches: list[str] = Field(
        description="Completions. Each replaces the characters from `cursor_start` to `cursor_end`.",
        examples=[["pardir", "path", "pathconf"]],
    )
    cursor_start: int = Field(description="Number of characters before the replaced text.", examples=[13])
    cursor_end: int = Field(
        description="Number of characters up to the end of the replaced text.", examples=[15]
    )


class InspectRequest(CompleteRequest):
    """Python code whose cursor is in or after the name to inspect."""

    detail_level: Literal[0, 1] = Field(
        0, description="1: include the source code, as `name??` does.", examples=[0]
    )


class InspectResponse(BaseModel):
    """A description of the name at the cursor."""

    found: bool = Field(description="Whether the kernel knows the name.", examples=[True])
    data: dict[str, str] = Field(
        description="Description of the name by media type, at least `text/plain`; empty if it is unknown.",
        examples=[{"text/plain": "Signature: len(obj, /)\nDocstring: Return the number of items."}],
    )


# Files in the workspace


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


# Cells


class CellInfo(BaseModel):
    """A cell of a session: its code, state and result."""

    cell_id: CellId
    number: int = Field(description="Number of the cell in the session, from 1.", examples=[1])
    code: str = Field(description="Code of the cell.", examples=["2 + 2"])
    state: CellState = Field(
        description="State of the cell. `lost`: the cell was started, but its result is unknown.",
        examples=["done"],
    )
    started_at: float = Field(description="When the cell was started.", examples=[_TIME])
    finished_at: float | None = Field(
        description="When the cell ended; null before that.", examples=[_TIME + 1]
    )
    result: ExecuteResponse | None = Field(
        description="Result of the cell; null while it is unknown, and after it was removed."
    )
    removed: Removed | None = Field(
        None,
        description="The part of the cell that was removed, because the history of the key was larger than "
        "`KEY_HISTORY_MB`: its `result`, or with `code` its code as well. Times, sizes and exit code are "
        "still at `/v1/executions/{cell_id}`.",
        examples=[None],
    )

    @classmethod
    def of(cls, cell: CellRecord) -> Self:
        """Return the wire form of a cell."""
        return cls(
            cell_id=cell.cell_id,
            number=cell.number,
            code=cell.code,
            state=cell.state,
            started_at=cell.started_at,
            finished_at=cell.finished_at,
            result=None if cell.result is None else ExecuteResponse.model_validate(cell.result),
            removed=cell.removed,
        )


class CellList(BaseModel):
    """A page of the cells of a session, in order."""

    cells: list[CellInfo] = Field(
        description="The cells of this page, sorted by number. Numbers may be missing: if the history of the "
        "key is larger than `KEY_HISTORY_MB` without any result and code, the oldest cells are removed."
    )
    next: str | None = Field(
        None, description="Value of `after` for the next page; null on the last page.", examples=[None]
    )
