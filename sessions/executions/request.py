"""Requests to run code."""

from dataclasses import dataclass

from sessions.models import Cell


@dataclass(frozen=True)
class InputFile:
    """A stored file, and the path at which the code finds it in the workspace."""

    path: str
    file_id: str


@dataclass(frozen=True)
class ExecutionRequest:
    """Python code to run."""

    code: str
    timeout_ms: int
    stdin: str | None = None
    last_line_interactive: bool = True
    """Whether the value of the last line is shown, as in a notebook."""
    files: tuple[InputFile, ...] = ()

    def cell(self, execution_id: str, *, final: bool, allow_stdin: bool = False) -> Cell:
        """Return the cell that runs this code; its id is the execution's."""
        return Cell(
            code=self.code,
            stdin=self.stdin,
            timeout_sec=self.timeout_ms / 1000,
            last_line_interactive=self.last_line_interactive,
            final=final,
            allow_stdin=allow_stdin and self.stdin is None,
            cell_id=execution_id,
        )
