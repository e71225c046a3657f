"""Settings of one execution: its limits, and what is stored of it."""

from pydantic import Field

from service.settings.values import MIB, Group


class ExecutionSettings(Group):
    """The limits of an execution, and of a cell that comes over the Jupyter gateway."""

    max_exec_timeout_ms: int = Field(
        10_000, ge=1, description="Largest `timeout_ms` that a caller may set, in milliseconds."
    )
    cpu_time_limit_sec: int = Field(5, ge=1, description="CPU time of one execution, in seconds.")
    idle_cpu_sec: int = Field(
        5,
        ge=1,
        description="CPU time between two calls, in seconds, for what calls of a session left running; above "
        "it, that is interrupted, then killed, and at last the kernel as well. A hundredth of the time that "
        "passes is added.",
    )
    memory_limit_mb: int = Field(
        128,
        ge=16,
        description="Memory for the user's code, in MiB; the idle kernel's own memory is added to it.",
    )
    max_output_bytes: int = Field(
        MIB, ge=1, description="Largest `stdout`, and largest `stderr`, in bytes; the rest is cut off."
    )
    max_display_bytes: int = Field(
        10 * MIB, ge=1, description="Total size of the rich outputs of one execution, in bytes."
    )
    max_output_files: int = Field(
        256, ge=0, description="Most files that one execution returns; further files are skipped."
    )
    keep_code: bool = Field(
        False,
        description="`1`: keep the code of each execution for 30 days; `GET /v1/executions/{id}` returns it.",
    )
    jupyter_timeout_sec: int = Field(
        3600,
        ge=1,
        description="Longest run of a cell over the Jupyter gateway, in seconds; used instead of "
        "`MAX_EXEC_TIMEOUT_MS`.",
    )
    jupyter_cpu_time_limit_sec: int = Field(
        600,
        ge=1,
        description="CPU time of a cell over the Jupyter gateway, in seconds; used instead of "
        "`CPU_TIME_LIMIT_SEC`.",
    )

    @property
    def memory_limit_bytes(self) -> int:
        """``memory_limit_mb`` in bytes."""
        return self.memory_limit_mb * MIB
