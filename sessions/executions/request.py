"""Requests to run code."""

from dataclasses import dataclass
from typing import Final

from sessions.models import Cell

DEFAULT_TIMEOUT_MS: Final = 2000
"""Timeout of code whose caller gives none, in milliseconds."""


@dataclass(frozen=True)
class InputFile:
    """A stored file, and the path at which the code finds it in the workspace."""

    path: str
    file_id: str


@dataclass(frozen=True)
class ExecutionRequest:
    """Python code to run."""

    code: str
    timeout_ms: int | None = None
    """In milliseconds; None means `DEFAULT_TIMEOUT_MS`, or the maximum if that is less."""
    stdin: str | None = None
    last_line_interactive: bool = True
    """Whether the value of the last line is shown, as in a notebook."""
    files: tuple[InputFile, ...] = ()

    def cell(self, execution_id: str, timeout_ms: int, *, final: bool, allow_stdin: bool = False) -> Cell:
        """Return the cell that runs this code for at most `timeout_ms`; its id is the execution's."""
        return Cell(
            code=self.code,
            stdin=self.stdin,
            timeout_sec=timeout_ms / 1000,
            last_line_interactive=self.last_line_interactive,
            final=final,
            allow_stdin=allow_stdin and self.stdin is None,
            cell_id=execution_id,
        )
