"""The limits of executions."""

from dataclasses import dataclass

from sessions.errors import TimeoutTooLong
from sessions.models import Budget


@dataclass(frozen=True)
class ArtifactLimits:
    """How much of an execution's output is stored as files."""

    max_files: int
    """Files and images of one execution, each."""
    max_file_bytes: int
    workspace_mib: int
    """Most MiB of all files of one execution: no more can be in its workspace."""


@dataclass(frozen=True)
class ExecutionLimits:
    """The limits of code that the API runs."""

    budget: Budget
    max_timeout_ms: int
    artifacts: ArtifactLimits

    def timeout_ms(self, asked_ms: int | None, default_ms: int) -> int:
        """Return the timeout of a call, in milliseconds: what the caller asked for, or a default.

        The default never exceeds the maximum. This is the one rule for all ways to run code or a command.

        Raises:
            TimeoutTooLong: the caller asks for more than the maximum.
        """
        if asked_ms is None:
            return min(default_ms, self.max_timeout_ms)
        if asked_ms > self.max_timeout_ms:
            raise TimeoutTooLong(self.max_timeout_ms)
        return asked_ms


@dataclass(frozen=True)
class CellLimits:
    """The limits of code that a client of the Jupyter gateway runs."""

    timeout_sec: float
    budget: Budget
