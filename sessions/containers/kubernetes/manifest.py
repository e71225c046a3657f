"""The pod of a container: the limits that Docker's `container_options` sets, in Kubernetes' terms. Pure."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import Final

from kernel_image import contract
from sessions.containers.image_care import Pull
from sessions.models import ContainerSpec, JsonObject, Limits

CONTAINER: Final = "kernel"
_CAPABILITIES: Final = ["NET_ADMIN", "SETUID", "SETGID", "SETPCAP", "KILL", "CHOWN"]
"""PID 1 gives up NET_ADMIN and CHOWN once network and folders are ready; user code has no capability."""
_PULL_POLICIES: Final[Mapping[Pull, str]] = {
    "missing": "IfNotPresent",
    "always": "Always",
    "never": "Never",
}
_RESERVED_CPU: Final = 0.1
"""Share of a kernel's CPUs that is requested: a kernel is idle most of the time."""
_LAST_RESORT_SEC: Final = 7 * 24 * 3600
"""A pod ends when its lease runs out; this deadline ends a pod in which even that fails."""


def selector(registry_id: str) -> str:
    """Return a label selector for the pods of all instances of a registry."""
    return f"{contract.ROLE_LABEL}={contract.ROLE},{contract.REGISTRY_LABEL}={registry_id}"


def pod(
    spec: ContainerSpec,
    registry_id: str,
    user_id: int,
    pull: Pull = "missing",
    node_selector: Mapping[str, str] | None = None,
    owner: JsonObject | None = None,
    *,
    uses_tls: bool = False,
) -> JsonObject:
    """Return a pod to create, with a new name.

    Args:
        spec: what to launch.
        registry_id: value of the label that marks the registry's pods.
        user_id: uid of the user code.
        pull: when nodes pull the image.
        node_selector: labels of the nodes that may run the pod.
        owner: owner reference; the cluster deletes the pod with its owner.
        uses_tls: whether the supervisor's and the kernel's ports use TLS.
    """
    plain = re.sub(r"[^a-z0-9]", "", spec.instance_id[:8].lower())
    metadata: JsonObject = {
        "name": f"code-interpreter-{plain}-{secrets.token_hex(6)}",
        "labels": {
            contract.ROLE_LABEL: contract.ROLE,
            contract.INSTANCE_LABEL: spec.instance_id,
            contract.REGISTRY_LABEL: registry_id,
            contract.USER_LABEL: str(user_id),
        },
    }
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    settings: JsonObject = {
        "restartPolicy": "Never",
        "hostname": "kernel",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # The pod reaches no resolver: a loopback address makes look-ups fail at once.
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "terminationGracePeriodSeconds": 1,
        "activeDeadlineSeconds": _LAST_RESORT_SEC,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(spec, user_id, pull, uses_tls=uses_tls)],
        "volumes": [
            {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": str(size)}}
            for name, _, size in _folders(spec.limits)
        ],
    }
    if spec.runtime is not None:
        settings["runtimeClassName"] = spec.runtime
    if node_selector:
        settings["nodeSelector"] = dict(node_selector)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": settings}


def needs(limits: Limits) -> dict[str, str]:
    """Return what one pod takes of its namespace's quotas, by the quotas' names, in Kubernetes' notation."""
    requested = limits.memory_bytes - contract.disk_bytes(limits.workspace_bytes, limits.tmp_bytes)
    return {
        "pods": "1",
        "requests.cpu": _cpus(limits.cpus * _RESERVED_CPU),
        "requests.memory": str(requested),
        "limits.cpu": _cpus(limits.cpus),
        "limits.memory": str(limits.memory_bytes),
    }


def _container(spec: ContainerSpec, user_id: int, pull: Pull, *, uses_tls: bool) -> JsonObject:
    limits = spec.limits
    environment = {
        contract.TOKEN_DIGEST_VARIABLE: hashlib.sha256(spec.token.encode()).hexdigest(),
        contract.LEASE_VARIABLE: str(limits.lease_sec),
        contract.IDLE_CPU_VARIABLE: str(limits.idle_cpu_sec),
        contract.USER_VARIABLE: str(user_id),
        contract.PROCESSES_VARIABLE: str(limits.pids),
        contract.TLS_VARIABLE: str(int(uses_tls)),
    }
    needed = needs(limits)
    resources = {
        kind: {name: needed[f"{kind}.{name}"] for name in ("cpu", "memory")}
        for kind in ("limits", "requests")
    }
    return {
        "name": CONTAINER,
        "image": spec.image,
        # An image with a plain name was built and loaded by hand: no registry has it.
        "imagePullPolicy": _PULL_POLICIES[pull if "/" in spec.image else "never"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "ports": [{"containerPort": port} for port in contract.PORTS],
        "resources": resources,
        "volumeMounts": [{"name": name, "mountPath": place} for name, place, _ in _folders(limits)],
        # If PID 1 ends early, its last output becomes the reason in the error.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "runAsUser": 0,
            "runAsNonRoot": False,
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": _CAPABILITIES},
        },
    }


def _folders(limits: Limits) -> tuple[tuple[str, str, int], ...]:
    """Return volume name, mount path and size in bytes of each writable file system."""
    return (
        ("workspace", contract.WORKSPACE, limits.workspace_bytes),
        ("home", contract.HOME, limits.tmp_bytes),
        ("tmp", "/tmp", limits.tmp_bytes),
        ("shm", "/dev/shm", limits.tmp_bytes),
    )


def _cpus(number: float) -> str:
    return f"{max(1, round(number * 1000))}m"
