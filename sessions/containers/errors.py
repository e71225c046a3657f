"""Errors of container engines, of images, and of the pool.

SessionsError
├── EngineUnavailable          the container engine does not answer
│   └── EngineUnusable         the engine can never be used as configured; found out at the start
│       ├── EngineMissing      no engine was found
│       ├── EngineUnsupported  the scheme of the engine's URL is not supported
│       ├── EngineForbidden    this user may not use the engine's socket
│       ├── ClusterUnusable    no Kubernetes cluster is configured, or it lacks something that is needed
│       ├── ClusterForbids     this service's account lacks a right in the namespace
│       └── NoWayToKernels     the published ports of the containers cannot be reached
├── ImageNotFound              the engine does not have the kernel image
├── ImageUnfit                 the kernel image does not work with this service
├── RuntimeNotFound            the engine does not have the OCI runtime
├── LaunchFailed               a container did not start
└── NoCapacity                 no sandbox can be made now
    └── AllKernelsBusy         no sandbox became free in time
"""

from collections.abc import Sequence
from typing import ClassVar

from sessions.errors import SessionsError


class EngineUnavailable(SessionsError):
    """The container engine does not answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the container engine does not answer: {reason}")
        self.reason = reason


class EngineUnusable(EngineUnavailable):
    """There is no engine, or none that can be used. The text says what to do."""

    def __init__(self, text: str) -> None:
        SessionsError.__init__(self, text)
        self.reason = text


class EngineMissing(EngineUnusable):
    """No engine was found. `looked_at` are the paths at which no socket exists."""

    def __init__(self, looked_at: tuple[str, ...]) -> None:
        super().__init__(
            f"there is no Docker engine (DOCKER_HOST is unset, and no socket at {', '.join(looked_at)}): "
            "start one, or set DOCKER_HOST; in a container, add "
            "-v /var/run/docker.sock:/var/run/docker.sock, or --privileged to run an engine inside it"
        )
        self.looked_at = looked_at


class EngineUnsupported(EngineUnusable):
    """The scheme of the engine's URL is not supported: the containers' ports could not be reached."""

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
            f"this user may not use the Docker engine at {socket}: add the user to the group {group_id}; "
            f"in a container, add --group-add {group_id}, or --user root, which becomes a user of that group"
        )
        self.socket = socket
        self.group_id = group_id


class ClusterUnusable(EngineUnusable):
    """No Kubernetes cluster is configured, or it lacks something that is needed. The text says what to do."""


class ClusterForbids(EngineUnusable):
    """This service's account lacks a right on the pods of `namespace`.

    `verbs` are the missing rights ("create", "list", ...); `detail` is the cluster's own text, if any.
    """

    def __init__(self, verbs: Sequence[str], namespace: str, detail: str = "") -> None:
        missing = detail or f"{', '.join(verbs)} pods"
        super().__init__(
            f"this service's account lacks a right in the cluster's namespace {namespace!r}: {missing}; give "
            "it the Role of deploy/chart/templates/rbac.yaml there"
        )
        self.verbs = tuple(verbs)
        self.namespace = namespace


class NoWayToKernels(EngineUnusable):
    """No address is known at which the service could reach the published ports of the containers."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the kernels could not be reached: {reason}; put this service on a bridge network of the engine "
            "(docker network connect) or on --network host, or set KERNEL_ADDRESS to the address at which "
            "the engine's machine is reached from here"
        )
        self.reason = reason


class ImageNotFound(SessionsError):
    """The engine does not have the image. `reason` is why pulling it failed; None: it was not pulled."""

    def __init__(self, image: str, reason: str | None = None) -> None:
        if reason is None:
            help_ = (
                "`make image` builds it; ./build-preloaded.sh builds an image of the service with it inside"
            )
        else:
            help_ = f"it could not be pulled: {reason}"
        super().__init__(f"the kernel image {image!r} is not there; {help_}")
        self.image = image
        self.reason = reason


class ImageUnfit(SessionsError):
    """The image exists but does not work with this service. `reason` says why, and what to do."""

    def __init__(self, image: str, reason: str) -> None:
        super().__init__(f"the kernel image {image!r} cannot be used: {reason}")
        self.image = image
        self.reason = reason


class RuntimeNotFound(SessionsError):
    """The engine has no OCI runtime of that name. `listed_by` is the command that lists the runtimes."""

    def __init__(self, runtime: str, listed_by: str = "docker info") -> None:
        super().__init__(
            f"the container engine has no runtime {runtime!r} (KERNEL_RUNTIME); "
            f"`{listed_by}` lists the runtimes it has"
        )
        self.runtime = runtime


class LaunchFailed(SessionsError):
    """A container did not start."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"a kernel container did not start: {reason}")
        self.reason = reason


class NoCapacity(SessionsError):
    """No sandbox can be made now, or the service is stopping."""

    fact: ClassVar = "no kernel can be started"

    def __init__(self, reason: str, retry_after_sec: int) -> None:
        super().__init__(f"{self.fact}: {reason}; try again in {retry_after_sec} s")
        self.reason = reason
        self.retry_after_sec = retry_after_sec


class AllKernelsBusy(NoCapacity):
    """No sandbox became free in time, or too many callers wait already."""

    fact: ClassVar = "no kernel is free"
