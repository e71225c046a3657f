"""The wire of sessions: their JSON bodies. Times are seconds since the epoch."""

from dataclasses import asdict
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from service.http.values import EXECUTION_ID, FILE_ID, CellId, Integer, SessionId, ShellCommand, Text
from service.routes.schemas.execute import MAX_INPUT_FILES, ExecuteRequest, ExecuteResponse, InputFile
from sessions.models import DEFAULT_TTL_SEC, MAX_TTL_SEC
from sessions.records import CellRecord, CellState, SessionRecord
from sessions.session.shell_command import CommandRequest, CommandResult

_TIME = 1_767_225_600.25

WorkspacePath = Annotated[
    str, Field(description="Where it is, relative to the working folder.", examples=["data/sales.csv"])
]
SizeBytes = Annotated[int, Field(description="Its size, in bytes.", examples=[18_204])]


# The session


class CreateSessionRequest(BaseModel):
    """A kernel to keep between calls."""

    ttl_seconds: Integer = Field(
        DEFAULT_TTL_SEC, ge=1, le=MAX_TTL_SEC, description="How long it lives, in seconds.", examples=[900]
    )
    files: list[InputFile] = Field(
        default_factory=list,
        max_length=MAX_INPUT_FILES,
        description="Stored files to put into the working folder first.",
        examples=[[{"path": "data/sales.csv", "file_id": FILE_ID}]],
    )


class ExtendSessionRequest(BaseModel):
    """How long a session lives from now on."""

    ttl_seconds: Integer = Field(
        ge=1, le=MAX_TTL_SEC, description="Seconds from now until it ends.", examples=[900]
    )


class SessionInfo(BaseModel):
    """A session that is open."""

    session_id: SessionId
    created_at: float = Field(description="When it was made.", examples=[_TIME])
    expires_at: float = Field(description="When it will end, whatever it does.", examples=[_TIME + 900])
    idle_expires_at: float | None = Field(
        description="When it will end unless it is used; null: there is no such limit.", examples=[None]
    )
    last_used_at: float = Field(description="When it was last used.", examples=[_TIME + 60])
    state: Literal["ready", "busy"] = Field(description="`busy`: code is running.", examples=["ready"])
    execution_count: int = Field(
        description="Executions since it was made or restarted: the number in a notebook's brackets.",
        examples=[3],
    )

    @classmethod
    def of(cls, session: SessionRecord, *, idle_sec: float, busy: bool, execution_count: int) -> Self:
        """The wire form of a session; an ``idle_sec`` of 0 is no limit."""
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


# What runs in it


class SessionExecuteRequest(ExecuteRequest):
    """Python code to run in a session's kernel."""

    detach: StrictBool = Field(
        False,
        description="Go on when the caller goes away; without streaming, answer at once with the "
        "cell's id. The result is in `cells`.",
        examples=[False],
    )
    allow_stdin: StrictBool = Field(
        False,
        description="Only when streaming: `input()` sends an `input_request`, to be answered.",
        examples=[False],
    )


class ExecuteAnywhereRequest(SessionExecuteRequest):
    """Python code to run once in a kernel of its own, or in a session's."""

    session_id: Text | None = Field(
        None, description="Run in this session; null: in a fresh kernel.", examples=[None]
    )


class Detached(BaseModel):
    """Code that runs on its own now."""

    cell_id: CellId
    execution_id: str = Field(description="Id of this execution.", examples=[EXECUTION_ID])


class InputReply(BaseModel):
    """What the code asked for."""

    value: Text = Field(description="One line, without its end.", examples=["Ada"])


class BashRequest(BaseModel):
    """A shell command to run in a session's working folder."""

    cmd: ShellCommand = Field(description="What `bash -c` gets.", examples=["ls -l data && wc -l data/*.csv"])
    timeout_ms: Integer = Field(30_000, ge=1, description="Longest run, in milliseconds.", examples=[30_000])

    def to_domain(self) -> CommandRequest:
        """Return the request as the domain takes it."""
        return CommandRequest(self.cmd, self.timeout_ms)


class BashResponse(BaseModel):
    """How a shell command ended."""

    stdout: str = Field(description="Standard output.", examples=["120 data/sales.csv\n"])
    stderr: str = Field(description="Standard error.", examples=[""])
    exit_code: int | None = Field(
        description="Its exit status; 128 + n after signal n; null after a timeout.", examples=[0]
    )
    timed_out: bool = Field(description="Whether `timeout_ms` ended it.", examples=[False])
    duration_ms: int = Field(description="How long it took, in milliseconds.", examples=[8])
    execution_id: str = Field(description="Id of this execution.", examples=[EXECUTION_ID])

    @classmethod
    def of(cls, result: CommandResult) -> Self:
        """Return the wire form of a result."""
        return cls(**asdict(result))


# Code that is being written


class CompleteRequest(BaseModel):
    """Code with a cursor in it. Characters are counted, not bytes or UTF-16 units."""

    code: Text = Field(description="Python source, as far as it is written.", examples=["import os\nos.pa"])
    cursor_pos: Integer | None = Field(
        None, ge=0, description="Characters before the cursor; null: it is at the end.", examples=[15]
    )

    @model_validator(mode="after")
    def _cursor_is_inside(self) -> Self:
        if self.cursor_pos is not None and self.cursor_pos > len(self.code):
            raise ValueError("cursor_pos is behind the end of the code")
        return self

    @property
    def cursor(self) -> int:
        """Characters before the cursor."""
        return len(self.code) if self.cursor_pos is None else self.cursor_pos


class CompleteResponse(BaseModel):
    """What can stand at the cursor; empty also where the kernel had no answer in time."""

    model_config = ConfigDict(from_attributes=True)

    matches: list[str] = Field(
        description="Each takes the place of the characters from `cursor_start` to `cursor_end`.",
        examples=[["pardir", "path", "pathconf"]],
    )
    cursor_start: int = Field(description="Characters before what is replaced.", examples=[13])
    cursor_end: int = Field(description="Characters before what follows it.", examples=[15])


class InspectRequest(CompleteRequest):
    """Code with the cursor in or behind a name, to be told about that."""

    detail_level: Literal[0, 1] = Field(
        0, description="1: with the source, as `name??` shows it.", examples=[0]
    )


class InspectResponse(BaseModel):
    """What is known of the name at the cursor."""

    found: bool = Field(description="Whether anything is known.", examples=[True])
    data: dict[str, str] = Field(
        description="The description, by media type; `text/plain` at least.",
        examples=[{"text/plain": "Signature: len(obj, /)\nDocstring: Return the number of items."}],
    )


# Its files


class WorkspaceFileInfo(BaseModel):
    """A file in a session's working folder."""

    path: WorkspacePath
    size_bytes: SizeBytes
    modified_at: float = Field(description="When it was last changed.", examples=[_TIME])


class WorkspaceFileList(BaseModel):
    """The files in a session's working folder and its subfolders."""

    files: list[WorkspaceFileInfo] = Field(description="The files, by path.")


class WrittenFile(BaseModel):
    """A file that was put into a session's working folder."""

    path: WorkspacePath
    size_bytes: SizeBytes


class RenameRequest(BaseModel):
    """Where a file should be."""

    path: Text = Field(
        description="Its new path, relative to the working folder; folders are made.",
        examples=["data/old/sales.csv"],
    )


# Its history


class CellInfo(BaseModel):
    """Code that ran, or runs, in a session, and what came of it."""

    cell_id: CellId
    number: int = Field(description="Its place among the session's cells, from 1.", examples=[1])
    code: str = Field(description="The code.", examples=["2 + 2"])
    state: CellState = Field(
        description="`lost`: it began, and what became of it is not known.", examples=["done"]
    )
    started_at: float = Field(description="When it began.", examples=[_TIME])
    finished_at: float | None = Field(description="When it ended; null: not yet.", examples=[_TIME + 1])
    result: ExecuteResponse | None = Field(description="How it ended; null while that is not known.")

    @classmethod
    def of(cls, cell: CellRecord) -> Self:
        """The wire form of a cell."""
        return cls(
            cell_id=cell.cell_id,
            number=cell.number,
            code=cell.code,
            state=cell.state,
            started_at=cell.started_at,
            finished_at=cell.finished_at,
            result=None if cell.result is None else ExecuteResponse.model_validate(cell.result),
        )


class CellList(BaseModel):
    """What ran in a session, in order."""

    cells: list[CellInfo] = Field(description="The session's cells, by number.")
