"""Errors of a container's supervisor.

SessionsError
└── SupervisorFailed    the supervisor refused a call, did not answer, or sent an invalid response
    ├── KernelEnded     the kernel had ended before the cell was started: no code has run
    └── NotClean        the used container could not be made as new
"""

from sessions.errors import SessionsError


class SupervisorFailed(SessionsError):
    """The supervisor refused a call, did not answer, or sent an invalid response.

    `quoted` is text that may come from the caller or from user code, such as a file's name: callers see it,
    logs do not. `outcome` says what was done about the failure.
    """

    def __init__(self, summary: str, quoted: str = "", outcome: str = "") -> None:
        self.summary = summary
        self.quoted = quoted
        self._outcome = f"; {outcome}" if outcome else ""
        self.reason = (f"{summary}: {quoted}" if quoted else summary) + self._outcome
        super().__init__(f"the kernel container failed: {self.reason}")

    @property
    def log_text(self) -> str:
        return f"the kernel container failed: {self.summary}{self._outcome}"


class KernelEnded(SupervisorFailed):
    """The kernel has ended since it last ran a cell. No code of this cell has run."""


class NotClean(SupervisorFailed):
    """The supervisor could not make the used container as new, or could not prove that it is."""
