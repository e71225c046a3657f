"""Converts the settings to the frozen dataclasses that the domain takes."""

from dataclasses import replace

from service.settings import Settings
from sessions.executions.limits import ArtifactLimits, CellLimits, ExecutionLimits
from sessions.models import Budget
from sessions.session.services import SessionSettings


def execution_limits(settings: Settings) -> ExecutionLimits:
    """Return the limits of calls without a session."""
    execution = settings.execution
    return ExecutionLimits(
        budget=Budget(
            cpu_sec=execution.cpu_time_limit_sec,
            memory_bytes=execution.memory_limit_bytes,
            output_bytes=execution.max_output_bytes,
            display_bytes=execution.max_display_bytes,
        ),
        max_timeout_ms=execution.max_exec_timeout_ms,
        artifacts=ArtifactLimits(
            max_files=execution.max_output_files,
            max_file_bytes=settings.storage.max_file_bytes,
            workspace_mib=settings.containers.workspace_size_mb,
        ),
    )


def session_limits(settings: Settings) -> ExecutionLimits:
    """Return the limits of calls in sessions."""
    execution, without_session = settings.execution, execution_limits(settings)
    budget = replace(
        without_session.budget,
        cpu_sec=execution.session_cpu_time_limit_sec,
        memory_bytes=execution.session_memory_limit_bytes,
        cpu_setting="SESSION_CPU_TIME_LIMIT_SEC",
        memory_setting="SESSION_MEMORY_LIMIT_MB",
    )
    return replace(without_session, budget=budget, max_timeout_ms=execution.session_exec_timeout_ms)


def notebook_limits(settings: Settings) -> CellLimits:
    """Return the limits of cells that clients of the Jupyter gateway run."""
    execution = settings.execution
    budget = replace(
        session_limits(settings).budget,
        cpu_sec=execution.jupyter_cpu_time_limit_sec,
        cpu_setting="JUPYTER_CPU_TIME_LIMIT_SEC",
    )
    return CellLimits(execution.jupyter_timeout_sec, budget)


def session_settings(settings: Settings) -> SessionSettings:
    """Return how many sessions may be open, and how long they live."""
    sessions = settings.sessions
    return SessionSettings(
        max_sessions=sessions.max_sessions,
        max_per_owner=settings.keys.limits.sessions,
        idle_sec=sessions.session_idle_sec,
        lease_sec=sessions.session_lease_sec,
        queue_size=sessions.session_queue_size,
        queue_timeout_sec=sessions.session_queue_timeout_sec,
    )
