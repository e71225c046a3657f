"""JSON bodies of recorded executions. Times are seconds since the epoch."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from service.http.values import EXECUTION_ID
from sessions.records import RUNNING, ExecutionKind, ExecutionRecord

_TIME = 1_767_225_600.25

Outcome = Literal["ok", "error", "timeout", "memory", "cpu", "died", "lost", "cancelled", "failed"]


class Stages(BaseModel):
    """Duration of each stage of an execution, in milliseconds; null if it was not measured."""

    model_config = ConfigDict(from_attributes=True)

    queue_ms: float | None = Field(
        description="Time waiting for a free kernel, or for the session, in milliseconds.", examples=[0.02]
    )
    start_ms: float | None = Field(
        description="Time waiting for a container or kernel to start if none was ready, in milliseconds.",
        examples=[0.0],
    )
    stage_ms: float | None = Field(
        description="Time to copy the inputs into the workspace, in milliseconds.", examples=[2.4]
    )
    run_ms: float | None = Field(
        description="Time that the code ran in the kernel, in milliseconds.", examples=[11.9]
    )
    gather_ms: float | None = Field(
        description="Time from the end of the code until all text, outputs and changed files are known, "
        "in milliseconds.",
        examples=[0.6],
    )
    store_ms: float | None = Field(
        description="Time to store images and files, in milliseconds.", examples=[1.8]
    )


class Sizes(BaseModel):
    """Sizes of the inputs and outputs of an execution; null if they were not measured."""

    model_config = ConfigDict(from_attributes=True)

    code_bytes: int | None = Field(description="Size of the code, in bytes.", examples=[52])
    stdout_bytes: int = Field(
        description="Size of standard output before it was cut, in bytes.", examples=[14]
    )
    stderr_bytes: int = Field(description="Size of standard error before it was cut, in bytes.", examples=[0])
    display_bytes: int | None = Field(
        description="Approximate size of the rich outputs, in bytes.", examples=[1290]
    )
    files_in: int = Field(description="Number of input files.", examples=[1])
    files_in_bytes: int | None = Field(
        description="Total size of the input files, in bytes.", examples=[18_204]
    )
    files_out: int = Field(description="Number of files that the execution returned.", examples=[0])
    files_out_bytes: int | None = Field(
        description="Total size of the returned files, in bytes.", examples=[0]
    )


class ExecutionInfo(BaseModel):
    """A recorded execution: its state, outcome, times and sizes."""

    execution_id: str = Field(description="Id of the execution.", examples=[EXECUTION_ID])
    kind: ExecutionKind = Field(
        description="`execute`: code without a session. `session`: a cell of a session. `bash`: a shell "
        "command in a session.",
        examples=["execute"],
    )
    session_id: str | None = Field(description="Id of the session; null without a session.", examples=[None])
    state: Literal["running", "done"] = Field(
        description="`running`: the execution waits or runs. `done`: it has ended.", examples=["done"]
    )
    outcome: Outcome | None = Field(
        description="How the execution ended. `ok`: without an error. `error`: with an exception, or with an "
        "exit status other than 0. `timeout`, `memory`, `cpu`: a limit stopped it. `died`: its process "
        "ended. `lost`: its container was lost. `cancelled`: the caller disconnected, or the session ended. "
        "`failed`: the service failed. null: the execution has not ended.",
        examples=["ok"],
    )
    created_at: float = Field(description="When the service received the request.", examples=[_TIME])
    finished_at: float | None = Field(
        description="When the execution ended; null before that.", examples=[_TIME + 0.013]
    )
    exit_code: int | None = Field(description="Exit status, as in the response.", examples=[0])
    timed_out: bool = Field(
        description="Whether the execution was stopped after `timeout_ms`.", examples=[False]
    )
    duration_ms: int = Field(
        description="Duration, as in the response, in milliseconds. While the execution runs, its duration "
        "so far.",
        examples=[12],
    )
    cpu_ms: float | None = Field(description="CPU time of the code, in milliseconds.", examples=[9.0])
    stages: Stages = Field(description="Duration of each stage, in milliseconds.")
    sizes: Sizes = Field(description="Sizes of the inputs and outputs.")
    code: str | None = Field(description="The code, if the setting `KEEP_CODE` is on.", examples=[None])

    @classmethod
    def of(cls, record: ExecutionRecord) -> Self:
        """Return the wire form of a recorded execution."""
        runs = record.outcome == RUNNING
        return cls(
            execution_id=record.execution_id,
            kind=record.kind,
            session_id=record.session_id,
            state="running" if runs else "done",
            outcome=None if record.outcome == RUNNING else record.outcome,
            created_at=record.created_at,
            finished_at=None if runs else record.finished_at,
            exit_code=record.exit_code,
            timed_out=record.timed_out,
            duration_ms=record.duration_ms,
            cpu_ms=record.cpu_ms,
            stages=Stages.model_validate(record),
            sizes=Sizes.model_validate(record),
            code=record.code,
        )


class ExecutionList(BaseModel):
    """One page of recorded executions, newest first."""

    executions: list[ExecutionInfo] = Field(description="The executions of this page.")
    next: str | None = Field(
        description="Value of `after` for the next page; null on the last page.", examples=[None]
    )
