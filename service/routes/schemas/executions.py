"""The wire of executions that have run, or run: their JSON bodies. Times are seconds since the epoch."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from service.http.values import EXECUTION_ID
from sessions.records import RUNNING, ExecutionKind, ExecutionRecord

_TIME = 1_767_225_600.25

Outcome = Literal["ok", "error", "timeout", "memory", "cpu", "died", "lost", "cancelled", "failed"]


class Stages(BaseModel):
    """How long each stage took, in milliseconds; null where it was not measured."""

    model_config = ConfigDict(from_attributes=True)

    queue_ms: float | None = Field(
        description="Waiting for a kernel, or for its turn in a session, in milliseconds.", examples=[0.02]
    )
    start_ms: float | None = Field(
        description="Waiting for a container or a kernel to start, where none was ready, in milliseconds.",
        examples=[0.0],
    )
    stage_ms: float | None = Field(
        description="Putting the inputs into the working folder, in milliseconds.", examples=[2.4]
    )
    run_ms: float | None = Field(description="The code in its kernel, in milliseconds.", examples=[11.9])
    gather_ms: float | None = Field(
        description="From the code's end until all text, outputs and changed files are known, in "
        "milliseconds.",
        examples=[0.6],
    )
    store_ms: float | None = Field(description="Storing images and files, in milliseconds.", examples=[1.8])


class Sizes(BaseModel):
    """How much went in and came out; null where it was not measured."""

    model_config = ConfigDict(from_attributes=True)

    code_bytes: int | None = Field(description="The code, in bytes.", examples=[52])
    stdout_bytes: int = Field(description="Standard output, what was cut included, in bytes.", examples=[14])
    stderr_bytes: int = Field(description="Standard error, what was cut included, in bytes.", examples=[0])
    display_bytes: int | None = Field(
        description="About what its rich outputs take, in bytes.", examples=[1290]
    )
    files_in: int = Field(description="Input files.", examples=[1])
    files_in_bytes: int | None = Field(description="Their size together, in bytes.", examples=[18_204])
    files_out: int = Field(description="Files that were given back.", examples=[0])
    files_out_bytes: int | None = Field(description="Their size together, in bytes.", examples=[0])


class ExecutionInfo(BaseModel):
    """An execution: what ran when, how long it took, how it ended."""

    execution_id: str = Field(description="Id of the execution.", examples=[EXECUTION_ID])
    kind: ExecutionKind = Field(
        description="`execute`: without a session; `session`: a cell of one; `bash`: a command in one.",
        examples=["execute"],
    )
    session_id: str | None = Field(description="The session it ran in.", examples=[None])
    state: Literal["running", "done"] = Field(
        description="`running`: it has not ended, or waits.", examples=["done"]
    )
    outcome: Outcome | None = Field(
        description="`error`: an exception, or an exit status other than 0. `timeout`, `memory`, `cpu`: a "
        "limit ended it. `died`: its process ended. `lost`: its container was lost. `cancelled`: its caller "
        "went away, or its session was ended. `failed`: the service could not go on. null: it runs.",
        examples=["ok"],
    )
    created_at: float = Field(description="When it was asked for.", examples=[_TIME])
    finished_at: float | None = Field(description="When it ended; null: not yet.", examples=[_TIME + 0.013])
    exit_code: int | None = Field(description="As in its answer.", examples=[0])
    timed_out: bool = Field(description="Whether `timeout_ms` ended it.", examples=[False])
    duration_ms: int = Field(
        description="As in its answer, in milliseconds; so far, while it runs.", examples=[12]
    )
    cpu_ms: float | None = Field(description="CPU time of the code, in milliseconds.", examples=[9.0])
    stages: Stages = Field(description="How long each stage took, in milliseconds.")
    sizes: Sizes = Field(description="How much went in and came out.")
    code: str | None = Field(description="The code, if the service keeps it (`KEEP_CODE`).", examples=[None])

    @classmethod
    def of(cls, record: ExecutionRecord) -> Self:
        """The wire form of an execution."""
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
    """Executions, newest first."""

    executions: list[ExecutionInfo] = Field(description="The executions of this page.")
    next: str | None = Field(
        description="Give it as `after` for the next page; null: this is the last.", examples=[None]
    )
