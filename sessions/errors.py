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
