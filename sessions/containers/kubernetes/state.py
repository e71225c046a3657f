"""Meaning of a pod's status for its start. Pure."""

from collections.abc import Iterable
from typing import Any, Final

from sessions.containers.errors import ImageNotFound, LaunchFailed
from sessions.models import JsonObject

_NO_IMAGE: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
_CANNOT_START: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"}
)
_RUNNING: Final = "Running"
_ENDED: Final = ("Succeeded", "Failed")
_MAX_MESSAGE: Final = 500


def address(pod: JsonObject, image: str) -> str | None:
    """Return the pod's IP once its container runs; None until then.

    Raises:
        ImageNotFound, LaunchFailed: the container will never run.
    """
    status = pod.get("status", {})
    (container, *_) = status.get("containerStatuses") or [{}]
    state = container.get("state", {})
    if "terminated" in state or status.get("phase") in _ENDED:
        raise LaunchFailed(_end(status, state.get("terminated", {})))
    if "deletionTimestamp" in pod["metadata"]:
        raise LaunchFailed("its pod was deleted before it had started")
    waiting = state.get("waiting", {})
    reason = waiting.get("reason", "")
    if reason in _NO_IMAGE:
        raise ImageNotFound(image, _on_one_line(reason, waiting.get("message")))
    if reason in _CANNOT_START:
        raise LaunchFailed(_on_one_line(reason, waiting.get("message")))
    if "running" in state and status.get("podIP"):
        return str(status["podIP"])
    return None


def is_over(pod: JsonObject) -> bool:
    """Whether the pod has ended, is being deleted, or is on a node that does not answer."""
    status = pod["status"]
    is_unreachable = status.get("phase") == _RUNNING and any(
        condition["type"] == "Ready" and condition["status"] == "False"
        for condition in status.get("conditions", ())
    )
    return is_unreachable or status.get("phase") in _ENDED or "deletionTimestamp" in pod["metadata"]


def has_ended(pod: JsonObject) -> bool:
    """Whether the pod's processes have ended, and it is not being deleted yet."""
    return pod["status"].get("phase") in _ENDED and "deletionTimestamp" not in pod["metadata"]


def waits_for(pod: JsonObject | None, events: Iterable[JsonObject]) -> str:
    """Return why a pod has not started in time."""
    if pod is None:
        return "the cluster has not reported it"
    status = pod.get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"no node takes it: {condition.get('message') or condition.get('reason')}"
    if not pod["spec"].get("nodeName"):
        return "the scheduler has not looked at it"
    warnings = [event for event in events if event.get("type") == "Warning"]
    if warnings:
        last = max(warnings, key=lambda event: event.get("lastTimestamp") or "")
        return _on_one_line(last.get("reason", ""), last.get("message"))
    (container, *_) = status.get("containerStatuses") or [{}]
    reason = container.get("state", {}).get("waiting", {}).get("reason")
    return f"node {pod['spec']['nodeName']} has not started it ({reason or 'it gives no reason'})"


def _end(status: JsonObject, terminated: dict[str, Any]) -> str:
    if terminated:
        reason = _on_one_line(terminated.get("reason", ""), terminated.get("message"))
        return f"it ended at once, with {terminated.get('exitCode')} ({reason})"
    return f"its node refused it: {_on_one_line(status.get('reason', 'Failed'), status.get('message'))}"


def _on_one_line(reason: str, message: str | None) -> str:
    """Return reason and message on one line."""
    text = " ".join((message or "").split())[:_MAX_MESSAGE]
    return f"{reason}: {text}" if text else reason
