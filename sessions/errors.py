"""What can go wrong here, as facts; `service.errors` alone turns them into status codes.

SessionsError
├── EngineUnavailable      the container engine does not answer
├── ImageNotFound          the engine has no such image
├── ImageUnfit             the image cannot work with this service
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
    """The engine has no such image; `reason` is why it could not be pulled, if that was tried."""

    def __init__(self, image: str, reason: str | None = None) -> None:
        help_ = "`make image` builds it" if reason is None else f"it could not be pulled: {reason}"
        super().__init__(f"the kernel image {image!r} is not there; {help_}")
        self.image = image
        self.reason = reason


class ImageUnfit(SessionsError):
    """The image is there and cannot work; `reason` says why and what helps."""

    def __init__(self, image: str, reason: str) -> None:
        super().__init__(f"the kernel image {image!r} cannot be used: {reason}")
        self.image = image
        self.reason = reason


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
    """The supervisor refused or did not answer; `status` is its HTTP status, if there was one."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(f"the kernel container failed: {reason}")
        self.reason = reason
        self.status = status


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
