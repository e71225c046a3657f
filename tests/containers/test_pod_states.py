"""The status of a pod, and the pod for a container. Needs no cluster."""

from typing import Any

import pytest

from kernel_image import contract
from sessions.containers.errors import ImageNotFound, LaunchFailed
from sessions.containers.kubernetes import manifest, state
from sessions.models import ContainerSpec, Limits

MIB = 1 << 20
IMAGE = "registry.example/kernel:1"
USER_ID = contract.USER_IDS.start
LIMITS = Limits(
    700 * MIB, cpus=0.5, pids=256, workspace_bytes=128 * MIB, tmp_bytes=64 * MIB, lease_sec=60, idle_cpu_sec=5
)

Object = dict[str, Any]


def pod(phase: str = "Pending", container: Object | None = None, **status: Any) -> Object:
    """Return a pod on a node, as the API server shows it."""
    statuses = [] if container is None else [{"name": "kernel", "state": container}]
    return {
        "metadata": {"name": "kernel-1"},
        "spec": {"nodeName": "node1"},
        "status": {"phase": phase, "containerStatuses": statuses, **status},
    }


def waiting(reason: str, message: str | None = None) -> Object:
    """Return the state of a container that does not run yet."""
    return {"waiting": {"reason": reason} | ({} if message is None else {"message": message})}


@pytest.mark.parametrize(
    "found",
    [
        {"metadata": {"name": "kernel-1"}, "spec": {}, "status": {"phase": "Pending"}},
        pod(),
        pod(container=waiting("ContainerCreating")),
        pod(container=waiting("PodInitializing"), podIP="10.0.0.7"),
        pod("Running", {"running": {}}),
    ],
)
def test_pod_that_is_starting_has_no_address_yet(found: Object) -> None:
    """A pod that is starting is not a failure."""
    assert state.address(found, IMAGE) is None


def test_running_pod_has_an_address() -> None:
    """The address is the pod's own."""
    assert state.address(pod("Running", {"running": {}}, podIP="10.0.0.7"), IMAGE) == "10.0.0.7"


@pytest.mark.parametrize(
    "reason", ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"]
)
def test_error_names_the_image_that_cannot_be_pulled(reason: str) -> None:
    """The error has the node's message, on one line."""
    with pytest.raises(ImageNotFound, match=rf"'{IMAGE}'.*{reason}: no such host"):
        state.address(pod(container=waiting(reason, "no such\n  host")), IMAGE)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (pod(container=waiting("CreateContainerError", "bad mount")), "CreateContainerError: bad mount"),
        (
            pod("Failed", {"terminated": {"exitCode": 1, "reason": "Error", "message": "OSError: nftables"}}),
            r"ended at once, with 1 \(Error: OSError: nftables\)",
        ),
        (pod("Running", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), r"with 137 \(OOMKilled\)"),
        (
            pod("Failed", reason="OutOfmemory", message="Node didn't have enough resource"),
            "its node refused it: OutOfmemory: Node didn't have enough resource",
        ),
        (
            pod() | {"metadata": {"name": "kernel-1", "deletionTimestamp": "2026-01-01T00:00:00Z"}},
            "deleted before it had started",
        ),
    ],
)
def test_pod_that_cannot_start_fails_with_the_reason(found: Object, reason: str) -> None:
    """The reason is the cluster's text."""
    with pytest.raises(LaunchFailed, match=reason):
        state.address(found, IMAGE)


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient memory.",
}
WARNINGS = [
    {"type": "Normal", "reason": "Scheduled", "lastTimestamp": "3"},
    {"type": "Warning", "reason": "FailedMount", "message": "no volume", "lastTimestamp": "1"},
    {"type": "Warning", "reason": "FailedCreatePodSandBox", "message": "no network", "lastTimestamp": "2"},
]


@pytest.mark.parametrize(
    ("found", "events", "reason"),
    [
        (None, [], "has not reported it"),
        (
            pod(conditions=[UNSCHEDULABLE]),
            [],
            "no node takes it: 0/3 nodes are available: 3 Insufficient memory.",
        ),
        (pod() | {"spec": {}}, [], "the scheduler has not looked at it"),
        (pod(), WARNINGS, "FailedCreatePodSandBox: no network"),
        (
            pod(container=waiting("ContainerCreating")),
            [],
            "node node1 has not started it (ContainerCreating)",
        ),
        (pod(), [], "node node1 has not started it (it gives no reason)"),
    ],
)
def test_slow_start_of_a_pod_has_a_reason(found: Object | None, events: list[Object], reason: str) -> None:
    """The reason is the scheduler's, the last warning, or what the node waits for."""
    assert reason in state.waits_for(found, events)


def test_ended_pods_differ_from_deleted_and_unreachable_ones() -> None:
    """Only a pod that has ended and is not being deleted has to be removed."""
    finished = pod("Succeeded")
    finished["metadata"] = finished["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert state.is_over(finished) and not state.has_ended(finished)
    assert state.is_over(pod("Failed")) and state.has_ended(pod("Failed"))
    assert not state.is_over(pod("Running")) and not state.has_ended(pod("Running"))
    unreachable = pod("Running", conditions=[{"type": "Ready", "status": "False"}])
    assert state.is_over(unreachable) and not state.has_ended(unreachable), "it may be running"


def spec(image: str = IMAGE, instance_id: str = "Blue_Service.1") -> ContainerSpec:
    """Return what the pool launches."""
    return ContainerSpec(image, instance_id, "the token", (), LIMITS, runtime="gvisor")


def test_name_of_a_pod_is_valid() -> None:
    """Each pod has a new name, which is valid for any instance id."""
    names = {manifest.pod(spec(), "registry", USER_ID)["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("code-interpreter-blueser-") and name.islower() for name in names)


def test_folders_count_in_the_limit_but_not_in_the_request() -> None:
    """A node reserves memory for kernels and code, and gives more when the folders are filled."""
    owner = {"kind": "ReplicaSet"}
    made = manifest.pod(spec(), "registry", USER_ID, owner=owner, node_selector={"pool": "kernels"})
    resources = made["spec"]["containers"][0]["resources"]
    disks = contract.disk_bytes(LIMITS.workspace_bytes, LIMITS.tmp_bytes)
    assert resources["limits"] == {"cpu": "500m", "memory": str(700 * MIB)}
    assert resources["requests"] == {"cpu": "50m", "memory": str(700 * MIB - disks)}
    assert made["metadata"]["labels"][contract.USER_LABEL] == str(USER_ID)
    assert made["spec"]["runtimeClassName"] == "gvisor"
    assert made["spec"]["nodeSelector"] == {"pool": "kernels"}
    assert made["metadata"]["ownerReferences"] == [{"kind": "ReplicaSet"}]
    assert "the token" not in str(made)


@pytest.mark.parametrize(
    ("image", "policy"),
    [(IMAGE, "IfNotPresent"), ("code-interpreter-kernel:latest", "Never")],
)
def test_image_with_a_plain_name_is_not_pulled(image: str, policy: str) -> None:
    """Such an image was built locally."""
    assert (
        manifest.pod(spec(image), "registry", USER_ID)["spec"]["containers"][0]["imagePullPolicy"] == policy
    )
