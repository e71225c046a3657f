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

    def check_timeout(self, timeout_ms: int) -> None:
        """Raise `TimeoutTooLong` if a caller asks for more milliseconds than the maximum."""
        if timeout_ms > self.max_timeout_ms:
            raise TimeoutTooLong(self.max_timeout_ms)


@dataclass(frozen=True)
class CellLimits:
    """The limits of code that a client of the Jupyter gateway runs."""

    timeout_sec: float
    budget: Budget
