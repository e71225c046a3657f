"""Settings of one execution: its limits, and what is stored of it."""

from typing import Any, Final, Self

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from service.settings.values import MIB, Group

_OF_SESSIONS: Final = {
    "session_exec_timeout_ms": "max_exec_timeout_ms",
    "session_cpu_time_limit_sec": "cpu_time_limit_sec",
    "session_memory_limit_mb": "memory_limit_mb",
}
"""Limits of calls in sessions, each with the limit of calls without one."""


class ExecutionSettings(Group):
    """The limits of an execution: without a session, in a session, and over the Jupyter gateway."""

    max_exec_timeout_ms: int = Field(
        10_000, ge=1, description="Largest `timeout_ms` of a call without a session, in milliseconds."
    )
    cpu_time_limit_sec: int = Field(
        5, ge=1, description="CPU time of one call without a session, in seconds."
    )
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
        description="Memory for the code of a call without a session, in MiB; the idle kernel's own memory "
        "is added to it.",
    )
    session_exec_timeout_ms: int = Field(
        60_000,
        ge=1,
        description="Largest `timeout_ms` of a call in a session, in milliseconds. If only "
        "`MAX_EXEC_TIMEOUT_MS` is set, its value holds here, too.",
    )
    session_cpu_time_limit_sec: int = Field(
        60,
        ge=1,
        description="CPU time of one call in a session, in seconds. If only `CPU_TIME_LIMIT_SEC` is set, its "
        "value holds here, too.",
    )
    session_memory_limit_mb: int = Field(
        512,
        ge=16,
        description="Memory for the code of a session, in MiB. If only `MEMORY_LIMIT_MB` is set, its value "
        "holds here, too. Containers have room for the larger of the two.",
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
        "`SESSION_EXEC_TIMEOUT_MS`.",
    )
    jupyter_cpu_time_limit_sec: int = Field(
        600,
        ge=1,
        description="CPU time of a cell over the Jupyter gateway, in seconds; used instead of "
        "`SESSION_CPU_TIME_LIMIT_SEC`.",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _inherit(cls, values: dict[str, Any], handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Let a limit that is set hold in sessions, unless theirs is set as well."""
        # The values are checked first, so that a problem is reported for the variable that was set.
        settings = handler(values)
        inherited = {name: values[limit] for name, limit in _OF_SESSIONS.items() if limit in values}
        return handler(inherited | values) if inherited else settings

    @property
    def memory_limit_bytes(self) -> int:
        """``memory_limit_mb`` in bytes."""
        return self.memory_limit_mb * MIB

    @property
    def session_memory_limit_bytes(self) -> int:
        """``session_memory_limit_mb`` in bytes."""
        return self.session_memory_limit_mb * MIB

    @property
    def container_share_bytes(self) -> int:
        """Memory for user code in a container, in bytes: any container may serve a session."""
        return max(self.memory_limit_bytes, self.session_memory_limit_bytes)
