"""JSON bodies of code and shell commands in a session."""

from dataclasses import asdict
from typing import Self

from pydantic import BaseModel, Field, StrictBool

from service.http.values import EXECUTION_ID, CellId, Integer, ShellCommand, Text
from service.routes.schemas.execute import NOTICE, ExecuteRequest, Usage
from sessions.session.shell_command import DEFAULT_COMMAND_MS, CommandRequest, CommandResult


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
    timeout_ms: Integer = Field(
        DEFAULT_COMMAND_MS,
        ge=1,
        description="Time limit, in milliseconds; at most `SESSION_EXEC_TIMEOUT_MS`. The default is no more "
        "than that.",
        examples=[30_000],
    )

    def to_domain(self) -> CommandRequest:
        """Convert the request to the type of the domain."""
        return CommandRequest(self.cmd, self.timeout_ms if "timeout_ms" in self.model_fields_set else None)


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
    usage: Usage = Field(description="Memory and CPU time that the command used.")
    notice: str = Field(description=NOTICE, examples=[""])

    @classmethod
    def of(cls, result: CommandResult) -> Self:
        """Return the wire form of the result of a shell command."""
        return cls(**asdict(result))
