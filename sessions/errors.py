"""What can go wrong here, as facts; `service.errors` alone turns them into status codes.

SessionsError
├── EngineUnavailable      the container engine does not answer
├── ImageNotFound          the engine has no such image
├── RuntimeNotFound        the engine has no such OCI runtime
├── LaunchFailed           a container did not come up
├── SupervisorFailed       a container's supervisor does not answer, or not as agreed
│   └── KernelEnded        the kernel ended before the cell was to begin: no code has run
├── NoCapacity             no kernel became free in time
├── InvalidPath            a workspace path that may not be staged
└── WorkspaceFull          the inputs do not fit
"""


class SessionsError(Exception):
    """Root of the errors of `sessions`."""


class EngineUnavailable(SessionsError):
    """The container engine does not answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the container engine does not answer: {reason}")
        self.reason = reason


class ImageNotFound(SessionsError):
    """The engine has no such image."""

    def __init__(self, image: str) -> None:
        super().__init__(f"the kernel image {image!r} is not there; `make image` builds it")
        self.image = image


class RuntimeNotFound(SessionsError):
    """The engine has no OCI runtime of that name."""

    def __init__(self, runtime: str) -> None:
        super().__init__(
            f"the container engine has no runtime {runtime!r} (KERNEL_RUNTIME); `docker info` lists its own"
        )
        self.runtime = runtime


class LaunchFailed(SessionsError):
    """A container did not come up."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"a kernel container did not start: {reason}")
        self.reason = reason


class SupervisorFailed(SessionsError):
    """The supervisor refused or did not answer; `status` is its HTTP status, if there was one.

    `quoted` is what may have come from the caller or the code, such as a file's name: it is for the
    caller, and not for a log.
    """

    def __init__(self, summary: str, status: int | None = None, quoted: str = "") -> None:
        self.summary = summary
        self.reason = f"{summary}: {quoted}" if quoted else summary
        super().__init__(f"the kernel container failed: {self.reason}")
        self.status = status


def told(error: Exception) -> str:
    """An error for a log: nothing that a caller or the code has said."""
    if isinstance(error, SupervisorFailed):
        return f"the kernel container failed: {error.summary}"
    plain = isinstance(error, SessionsError) and not isinstance(error, InvalidPath)
    return str(error) if plain else type(error).__name__


class KernelEnded(SupervisorFailed):
    """The kernel has ended since it last ran a cell."""


class NoCapacity(SessionsError):
    """No kernel became free in time."""

    def __init__(self, reason: str, retry_after_sec: int) -> None:
        super().__init__(f"no kernel is free: {reason}; try again in {retry_after_sec} s")
        self.reason = reason
        self.retry_after_sec = retry_after_sec


class InvalidPath(SessionsError):
    """A workspace path that may not be staged."""

    def __init__(self, path: str, reason: str) -> None:
        shown = path if len(path) <= 80 else path[:77] + "..."
        super().__init__(f"path {shown!r} {reason}")
        self.path = path
        self.reason = reason


class WorkspaceFull(SessionsError):
    """The inputs do not fit into the workspace."""

    def __init__(self) -> None:
        super().__init__("the files do not fit into the workspace (WORKSPACE_SIZE_MB)")
