"""JSON bodies of executions: the code to run, and how it ended."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from service.http.values import EXECUTION_ID, FILE_ID, FileId, Integer, Source, Text
from sessions.executions import request as domain
from sessions.executions.request import ExecutionRequest

MAX_INPUT_FILES = 1000


class InputFile(BaseModel):
    """A stored file that the code finds in its working folder."""

    path: Text = Field(
        description="Where to put it, relative to the working folder; folders are made.",
        examples=["data/sales.csv"],
    )
    file_id: Text = Field(description="Id of a stored file.", examples=[FILE_ID])


def to_inputs(files: Iterable[InputFile]) -> tuple[domain.InputFile, ...]:
    """Return input files as the domain takes them."""
    return tuple(domain.InputFile(file.path, file.file_id) for file in files)


class ExecuteRequest(BaseModel):
    """Python code to run once, in a kernel of its own."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"code": "import pandas as pd\npd.DataFrame({'a': [1, 2]}).sum()"},
                {
                    "code": "print(open('notes.txt').read())\nname = input()\nname.upper()",
                    "stdin": "Ada\n",
                    "timeout_ms": 5000,
                    "files": [{"path": "notes.txt", "file_id": FILE_ID}],
                },
            ]
        }
    )

    code: Source = Field(
        description="Python source; top-level `await`, magics and `!commands` work.",
        examples=["print('Hello, World!')\n2 + 2"],
    )
    stdin: Text | None = Field(
        None,
        description="What the code reads from standard input, then end of file.",
        examples=["Ada\n"],
    )
    timeout_ms: Integer = Field(
        2000,
        ge=1,
        description="Longest run, in milliseconds; at most `MAX_EXEC_TIMEOUT_MS`.",
        examples=[2000],
    )
    last_line_interactive: StrictBool = Field(
        True,
        description="Show the value of the last line, as a notebook does, if it is an expression.",
        examples=[True],
    )
    files: list[InputFile] = Field(
        default_factory=list,
        max_length=MAX_INPUT_FILES,
        description="Stored files to put into the working folder first.",
        examples=[[{"path": "data/sales.csv", "file_id": FILE_ID}]],
    )

    def to_domain(self) -> ExecutionRequest:
        """Return the request as the domain takes it."""
        return ExecutionRequest(
            code=self.code,
            timeout_ms=self.timeout_ms,
            stdin=self.stdin,
            last_line_interactive=self.last_line_interactive,
            files=to_inputs(self.files),
        )


class WorkspaceFile(BaseModel):
    """A file that the code made or changed, stored."""

    path: str = Field(description="Where it was, relative to the working folder.", examples=["out/chart.png"])
    kind: Literal["file"] = Field("file", description="Always `file`.", examples=["file"])
    file_id: FileId
    size_bytes: int = Field(description="Its size, in bytes.", examples=[18_204])


class SkippedFile(BaseModel):
    """A file that the code made or changed, but that was not stored."""

    path: str = Field(description="Where it was, relative to the working folder.", examples=["big.bin"])
    size_bytes: int = Field(description="Its size, in bytes.", examples=[734_003_200])
    reason: str = Field(description="Why it was not stored.", examples=["File size exceeds maximum of 10 MB"])


class ExecutionError(BaseModel):
    """Why the code did not come to its end."""

    name: str = Field(
        description="The exception's class, or `TimeoutExceeded`, `MemoryLimitExceeded`, "
        "`CpuTimeLimitExceeded` or `KernelDied`.",
        examples=["ZeroDivisionError"],
    )
    value: str = Field(description="The exception's text.", examples=["division by zero"])
    traceback: list[str] = Field(
        description="The traceback, without colour codes.",
        examples=[["Traceback (most recent call last)", "ZeroDivisionError: division by zero"]],
    )


class ExecuteResult(BaseModel):
    """How an execution ended: all there is to know but the two streams."""

    exit_code: int | None = Field(
        description="As a shell reports it: 0, 1 after an exception, n after `sys.exit(n)`, "
        "128 + n after signal n; null after a timeout.",
        examples=[0],
    )
    timed_out: bool = Field(description="Whether `timeout_ms` ended it.", examples=[False])
    duration_ms: int = Field(description="How long it took, in milliseconds.", examples=[12])
    files: list[WorkspaceFile] = Field(
        description="Files that were made or changed.",
        examples=[[{"path": "out/chart.png", "kind": "file", "file_id": FILE_ID, "size_bytes": 18_204}]],
    )
    outputs: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Rich outputs: `display_data` and `execute_result` of notebook format 4. An "
        "image also has a `file_id` in `metadata`, under its media type.",
        examples=[
            [
                {
                    "output_type": "execute_result",
                    "execution_count": 1,
                    "data": {"text/plain": "4"},
                    "metadata": {},
                }
            ]
        ],
    )
    error: ExecutionError | None = Field(
        None, description="Why it did not come to its end; null if it did.", examples=[None]
    )
    state: Literal["kept", "restarted", "discarded"] = Field(
        "discarded",
        description="State of the variables. `kept`: the kernel of the session goes on. `restarted`: the "
        "session has a new kernel. `discarded`: the call had no session.",
        examples=["discarded"],
    )
    state_reason: str = Field(
        "",
        description="Why `state` is what it is.",
        examples=["a call without a session gets its own kernel, which is discarded afterwards"],
    )
    execution_count: int | None = Field(
        None, description="The number in a notebook's brackets; null if it did not get one.", examples=[1]
    )
    cell_id: str | None = Field(
        None, description="Id of the cell in its session; null without a session.", examples=[None]
    )
    execution_id: str = Field(description="Id of this execution.", examples=[EXECUTION_ID])
    truncated: list[Literal["stdout", "stderr", "outputs"]] = Field(
        default_factory=list,
        description="What was cut because it was over its limit.",
        examples=[[]],
    )
    skipped_files: list[SkippedFile] = Field(
        default_factory=list,
        description="Files that were made or changed but not stored, and why.",
        examples=[[]],
    )


class PrintedText(BaseModel):
    """What an execution printed."""

    stdout: str = Field(
        description="Standard output, with the value of the last line.",
        examples=["Hello, World!\n4\n"],
    )
    stderr: str = Field(description="Standard error, with the traceback.", examples=[""])


class ExecuteResponse(ExecuteResult, PrintedText):
    """What an execution printed, and how it ended."""
