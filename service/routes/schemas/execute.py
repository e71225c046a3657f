"""JSON bodies of executions: requests and results."""

from collections.abc import Iterable
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from service.http.values import EXECUTION_ID, FILE_ID, FileId, Integer, Source, Text
from sessions.executions import request as domain
from sessions.executions.request import DEFAULT_TIMEOUT_MS, ExecutionRequest

MAX_INPUT_FILES = 1000


class InputFile(BaseModel):
    """A stored file that is copied into the workspace before the code runs."""

    path: Text = Field(
        description="Path in the workspace. Missing folders are created.",
        examples=["data/sales.csv"],
    )
    file_id: Text = Field(description="Id of a stored file.", examples=[FILE_ID])


def to_inputs(files: Iterable[InputFile]) -> tuple[domain.InputFile, ...]:
    """Convert input files from the wire to the type of the domain."""
    return tuple(domain.InputFile(file.path, file.file_id) for file in files)


class ExecuteRequest(BaseModel):
    """Python code to run once, in its own kernel."""

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
        description="Python source. Top-level `await`, magics and `!commands` are supported.",
        examples=["print('Hello, World!')\n2 + 2"],
    )
    stdin: Text | None = Field(
        None,
        description="Text that the code reads from standard input, followed by end of file.",
        examples=["Ada\n"],
    )
    timeout_ms: Integer = Field(
        DEFAULT_TIMEOUT_MS,
        ge=1,
        description="Time limit, in milliseconds; at most `MAX_EXEC_TIMEOUT_MS`, or in a session "
        "`SESSION_EXEC_TIMEOUT_MS`. The default is no more than that.",
        examples=[2000],
    )
    last_line_interactive: StrictBool = Field(
        True,
        description="If the last line is an expression, show its value, as a notebook does.",
        examples=[True],
    )
    files: list[InputFile] = Field(
        default_factory=list,
        max_length=MAX_INPUT_FILES,
        description="Stored files to copy into the workspace before the code runs.",
        examples=[[{"path": "data/sales.csv", "file_id": FILE_ID}]],
    )

    def to_domain(self) -> ExecutionRequest:
        """Convert the request to the type of the domain."""
        return ExecutionRequest(
            code=self.code,
            timeout_ms=self.timeout_ms if "timeout_ms" in self.model_fields_set else None,
            stdin=self.stdin,
            last_line_interactive=self.last_line_interactive,
            files=to_inputs(self.files),
        )


class WorkspaceFile(BaseModel):
    """A file that the code created or changed, and that the service stored."""

    path: str = Field(description="Path of the file in the workspace.", examples=["out/chart.png"])
    kind: Literal["file"] = Field("file", description="Always `file`.", examples=["file"])
    file_id: FileId
    size_bytes: int = Field(description="Size of the file, in bytes.", examples=[18_204])


class SkippedFile(BaseModel):
    """A file that the code created or changed, but that the service did not store."""

    path: str = Field(description="Path of the file in the workspace.", examples=["big.bin"])
    size_bytes: int = Field(description="Size of the file, in bytes.", examples=[734_003_200])
    reason: str = Field(
        description="Why the file was not stored.", examples=["File size exceeds maximum of 10 MB"]
    )


class ExecutionError(BaseModel):
    """The exception or limit that stopped the code."""

    name: str = Field(
        description="Class of the exception, or `TimeoutExceeded`, `MemoryLimitExceeded`, "
        "`CpuTimeLimitExceeded` or `KernelDied`.",
        examples=["ZeroDivisionError"],
    )
    value: str = Field(description="Message of the exception.", examples=["division by zero"])
    traceback: list[str] = Field(
        description="The traceback, without colour codes.",
        examples=[["Traceback (most recent call last)", "ZeroDivisionError: division by zero"]],
    )


class Usage(BaseModel):
    """The memory and CPU time that code used."""

    memory_bytes: int = Field(
        description="Most memory that the processes and variables held while the code ran, in bytes, beyond "
        "that of an idle kernel. It is measured ten times a second and at the end.",
        examples=[41_943_040],
    )
    memory_limit_bytes: int = Field(
        description="Limit of that memory, in bytes: `MEMORY_LIMIT_MB`, or in a session "
        "`SESSION_MEMORY_LIMIT_MB`.",
        examples=[536_870_912],
    )
    cpu_seconds: float = Field(description="CPU time of all processes, in seconds.", examples=[0.031])


NOTICE: Final = (
    "What was done between the calls to processes that earlier calls left behind and that used more CPU time "
    "than `IDLE_CPU_SEC`, or that 80% of the memory are used; empty if there is nothing to say."
)


class ExecuteResult(BaseModel):
    """The result of an execution without `stdout` and `stderr`."""

    exit_code: int | None = Field(
        description="Exit status: 0 after success, 1 after an exception, n after `sys.exit(n)`, "
        "128 + n after signal n. null after a timeout.",
        examples=[0],
    )
    timed_out: bool = Field(
        description="Whether the execution was stopped after `timeout_ms`.", examples=[False]
    )
    duration_ms: int = Field(description="Duration of the execution, in milliseconds.", examples=[12])
    files: list[WorkspaceFile] = Field(
        description="Stored files that the code created or changed.",
        examples=[[{"path": "out/chart.png", "kind": "file", "file_id": FILE_ID, "size_bytes": 18_204}]],
    )
    outputs: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Rich outputs: `display_data` and `execute_result` of notebook format 4. For an "
        "image, `metadata` has a `file_id` under the media type.",
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
        None, description="Error that stopped the code; null if the code ran to its end.", examples=[None]
    )
    state: Literal["kept", "restarted", "discarded"] = Field(
        "discarded",
        description="State of the variables. `kept`: the session keeps its kernel. `restarted`: the "
        "session has a new kernel. `discarded`: the call had no session.",
        examples=["discarded"],
    )
    state_reason: str = Field(
        "",
        description="Reason for the value of `state`.",
        examples=["a call without a session gets its own kernel, which is discarded afterwards"],
    )
    execution_count: int | None = Field(
        None,
        description="Execution count of the kernel, as shown in a notebook; null if the code got none.",
        examples=[1],
    )
    cell_id: str | None = Field(
        None, description="Id of the cell in the session; null without a session.", examples=[None]
    )
    execution_id: str = Field(description="Id of this execution.", examples=[EXECUTION_ID])
    truncated: list[Literal["stdout", "stderr", "outputs"]] = Field(
        default_factory=list,
        description="Outputs that were cut at their size limit.",
        examples=[[]],
    )
    skipped_files: list[SkippedFile] = Field(
        default_factory=list,
        description="Files that the code created or changed, but that were not stored.",
        examples=[[]],
    )
    usage: Usage | None = Field(
        None, description="Memory and CPU time that the code used; null for a cell of an earlier version."
    )
    notice: str = Field("", description=NOTICE, examples=[""])


class PrintedText(BaseModel):
    """The text that an execution printed."""

    stdout: str = Field(
        description="Standard output, including the value of the last line.",
        examples=["Hello, World!\n4\n"],
    )
    stderr: str = Field(description="Standard error, including the traceback.", examples=[""])


class ExecuteResponse(ExecuteResult, PrintedText):
    """The result of an execution, with the text that it printed."""
