"""Errors of a container's supervisor.

SessionsError
└── SupervisorFailed    the supervisor refused a call, did not answer, or sent an invalid response
    └── KernelEnded     the kernel had ended before the cell was started: no code has run
"""

from sessions.errors import SessionsError


class SupervisorFailed(SessionsError):
    """The supervisor refused a call, did not answer, or sent an invalid response.

    `status` is the HTTP status of its response, or None without a response. `quoted` is text that may
    come from the caller or from user code, such as a file's name: callers see it, logs do not.
    """

    def __init__(self, summary: str, status: int | None = None, quoted: str = "") -> None:
        self.summary = summary
        self.reason = f"{summary}: {quoted}" if quoted else summary
        super().__init__(f"the kernel container failed: {self.reason}")
        self.status = status

    @property
    def log_text(self) -> str:
        return f"the kernel container failed: {self.summary}"


class KernelEnded(SupervisorFailed):
    """The kernel has ended since it last ran a cell. No code of this cell has run."""
