"""What can go wrong here, as facts; `service.errors` alone turns them into status codes.

SessionsError
├── EngineUnavailable      the container engine does not answer
│   └── EngineUnusable     it never will: found out at the start
│       ├── EngineMissing      there is none anywhere
│       ├── EngineUnsupported  its URL is of a kind by which kernels cannot be reached
│       ├── EngineForbidden    this user may not use it
│       ├── ClusterUnusable    there is no way to a cluster, or it lacks the namespace
│       ├── ClusterForbids     this service's account lacks a right in the namespace
│       └── NoWayToKernels     the kernels' published ports could not be reached
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

from collections.abc import Sequence


class SessionsError(Exception):
    """Root of the errors of `sessions`."""


class EngineUnavailable(SessionsError):
    """The container engine does not answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the container engine does not answer: {reason}")
        self.reason = reason


class EngineUnusable(EngineUnavailable):
    """No engine, or none that will do; the text says what to do."""

    def __init__(self, text: str) -> None:
        SessionsError.__init__(self, text)
        self.reason = text


class EngineMissing(EngineUnusable):
    """There is no engine; `looked_at` are the sockets that are not there."""

    def __init__(self, looked_at: tuple[str, ...]) -> None:
        super().__init__(
            f"there is no Docker engine (DOCKER_HOST is unset, and no socket at {', '.join(looked_at)}): "
            "start one, or set DOCKER_HOST; a container needs -v /var/run/docker.sock:/var/run/docker.sock, "
            "or --privileged for an engine of its own"
        )
        self.looked_at = looked_at


class EngineUnsupported(EngineUnusable):
    """The URL of the engine is of a kind by which kernels cannot be reached."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"DOCKER_HOST={url} cannot be used: it has to be unix://, or tcp:// with DOCKER_TLS_VERIFY=1 and "
            "DOCKER_CERT_PATH, since the kernels' ports have to be reached there, too, and ssh:// does not "
            "carry them"
        )
        self.url = url


class EngineForbidden(EngineUnusable):
    """This user may not use the engine's socket, which belongs to the group `group_id`."""

    def __init__(self, socket: str, group_id: int) -> None:
        super().__init__(
            f"this user may not use the Docker engine at {socket}: add it to the group {group_id} (a "
            f"container: --group-add {group_id}, or --user root, which gives way to a user of that group)"
        )
        self.socket = socket
        self.group_id = group_id


class ClusterUnusable(EngineUnusable):
    """There is no way to a cluster, or it lacks what is asked for; the text says what to do."""


class ClusterForbids(EngineUnusable):
    """This service's account may not do what it has to do with the pods of `namespace`."""

    def __init__(self, verbs: Sequence[str], namespace: str, said: str = "") -> None:
        what = said or f"{', '.join(verbs)} pods"
        super().__init__(
            f"this service's account lacks a right in the cluster's namespace {namespace!r}: {what}; give "
            "it the Role of deploy/chart/templates/rbac.yaml there"
        )
        self.verbs = tuple(verbs)
        self.namespace = namespace


class NoWayToKernels(EngineUnusable):
    """Nothing is known by which the service would reach the ports that kernels are published on."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the kernels could not be reached: {reason}; put this service on a bridge network of the engine "
            "(docker network connect) or on --network host, or say in KERNEL_ADDRESS where the engine's "
            "machine is reached from here"
        )
        self.reason = reason


class ImageNotFound(SessionsError):
    """The engine has no such image; `reason` is why it could not be pulled, if that was tried."""

    def __init__(self, image: str, reason: str | None = None) -> None:
        if reason is None:
            help_ = "`make image` builds it, and ./build-preloaded.sh one of the service that has it inside"
        else:
            help_ = f"it could not be pulled: {reason}"
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
    """The engine has no OCI runtime of that name; `listed_by` is a command that shows which it has."""

    def __init__(self, runtime: str, listed_by: str = "docker info") -> None:
        super().__init__(
            f"the container engine has no runtime {runtime!r} (KERNEL_RUNTIME); `{listed_by}` lists its own"
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


class CallFailed(Exception):
    """Something a caller asked for cannot be done. The text is for the caller."""


class FileNotFound(CallFailed):
    """No file has this id: it never existed, was deleted or has expired."""

    def __init__(self, file_id: str) -> None:
        super().__init__(f"File with ID '{file_id}' not found")
        self.file_id = file_id


class InputNotFound(CallFailed):
    """An execution names an input file that does not exist."""

    def __init__(self, file_id: str, path: str) -> None:
        super().__init__(f"File with ID '{file_id}' not found for path '{path}'.")
        self.file_id = file_id
        self.path = path


class FileTooLarge(CallFailed):
    """A file has more than ``limit_bytes`` bytes."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"File size exceeds maximum of {limit_bytes / (1024 * 1024):g} MB")
        self.limit_bytes = limit_bytes


class TimeoutTooLong(CallFailed):
    """A caller's ``timeout_ms`` is over ``limit_ms``, in milliseconds."""

    def __init__(self, limit_ms: int) -> None:
        super().__init__(f"timeout_ms exceeds maximum of {limit_ms} ms")
        self.limit_ms = limit_ms


class SessionNotFound(CallFailed):
    """No session has ever had this id."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session '{session_id}' not found")
        self.session_id = session_id


class SessionEnded(CallFailed):
    """The session has ended, at ``ended_at`` (seconds since the epoch)."""

    def __init__(self, session_id: str, reason: str, ended_at: float) -> None:
        super().__init__(f"Session '{session_id}' has ended: {reason}")
        self.session_id = session_id
        self.reason = reason
        self.ended_at = ended_at


class SessionBusy(CallFailed):
    """The session runs other code, and this did not get its turn in time."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session '{session_id}' is busy; try again when its running code has ended")
        self.session_id = session_id


class SessionMoving(CallFailed):
    """The replica that had the session is gone or does not answer, and no other has it yet."""

    retry_after_sec = 2

    def __init__(self, session_id: str | None = None) -> None:
        which = "The session" if session_id is None else f"Session '{session_id}'"
        super().__init__(f"{which} is moving to another replica of the service; try again soon")
        self.session_id = session_id


class SessionElsewhere(SessionMoving):
    """Another replica has the session, which is reached at ``url``: the call is to be passed on to it."""

    def __init__(self, session_id: str, url: str) -> None:
        super().__init__(session_id)
        self.url = url


class CellNotFound(CallFailed):
    """The session has no cell of this id."""

    def __init__(self, cell_id: str) -> None:
        super().__init__(f"Cell '{cell_id}' not found")
        self.cell_id = cell_id


class ExecutionNotFound(CallFailed):
    """No execution of the caller's has this id."""

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"Execution with ID '{execution_id}' not found")
        self.execution_id = execution_id


class NoInputRequest(CallFailed):
    """Nothing in the session asks for input."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session '{session_id}' does not ask for input now")
        self.session_id = session_id


class WorkspaceFileNotFound(CallFailed):
    """The session's workspace has no such regular file."""

    def __init__(self, path: str) -> None:
        super().__init__(f"The session has no file {path!r}")
        self.path = path


class TooManySessions(CallFailed):
    """``limit`` sessions are open, which ``setting`` allows: in all, or for one key."""

    def __init__(self, limit: int, setting: str = "MAX_SESSIONS") -> None:
        super().__init__(f"{setting}={limit} sessions are open; delete one or try again later")
        self.limit = limit
        self.setting = setting


class TooManyExecutions(CallFailed):
    """``limit`` executions of the key run or wait."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"KEY_MAX_EXECUTIONS={limit} executions of this key run; try again after one")
        self.limit = limit


class StorageQuotaExceeded(CallFailed):
    """A key's files would have more than ``limit_bytes`` bytes together."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"The files of this key would exceed KEY_STORAGE_MB={limit_bytes // (1024 * 1024)}; delete some"
        )
        self.limit_bytes = limit_bytes


class StorageFull(CallFailed):
    """The disk under the files or the registry takes no more bytes."""

    def __init__(self, reason: str) -> None:
        super().__init__("The service has no space left to store files")
        self.reason = reason


class StorageFailed(CallFailed):
    """The disk under the files does not do what it is asked; ``reason`` is the system's."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The service cannot store or read files: {reason}")
        self.reason = reason


class RegistryUnavailable(CallFailed):
    """The registry's database does not do what it is asked; ``reason`` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__("The service's registry does not answer")
        self.reason = reason
