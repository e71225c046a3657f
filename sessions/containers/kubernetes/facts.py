"""Facts that a cluster reports about itself, a namespace and its nodes, for the doctor. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sessions.models import JsonObject

_QUANTITY: Final = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([numkMGTPE]i?|Ki|)")
_UNITS: Final[Mapping[str, float]] = {
    "": 1,
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    **{unit: 1000**power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", 1)},
}


Unseen = Literal["missing", "forbidden"]
"""The object does not exist; or this service's account may not read it."""


@dataclass(frozen=True)
class Quota:
    """A limit of a namespace. `resource` is `pods`, `limits.memory` and so on; units are CPUs and bytes."""

    name: str
    resource: str
    hard: float
    used: float


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    name: str
    takes_pods: bool
    room: Mapping[str, float]
    """Allocatable `cpu`, `memory` in bytes, and `pods`. How much of it is in use is not known."""
    kernel: str
    runtime: str


@dataclass(frozen=True)
class ClusterFacts:
    """Facts about a cluster; where one is not known, the reason."""

    version: str
    missing: tuple[str, ...]
    """Verbs on pods that this service's account needs and does not have."""
    reads_events: bool
    labels: Mapping[str, str] | Unseen
    """Labels of the namespace."""
    quotas: Sequence[Quota] | Unseen
    runtime_class: Literal["there"] | Unseen
    """Whether the RuntimeClass of the settings exists; `there` if the settings name none."""
    nodes: Sequence[Node] | Unseen


def amount(quantity: str) -> float:
    """Return the value of a quantity such as `250m` or `1Gi`. Raise ValueError if it is invalid."""
    found = _QUANTITY.fullmatch(quantity)
    if found is None:
        raise ValueError(f"{quantity!r} is not a quantity")
    return float(found[1]) * _UNITS[found[2]]


def quotas_of(quota: JsonObject) -> list[Quota]:
    """Return the limits of a ResourceQuota."""
    used = quota.get("status", {}).get("used", {})
    return [
        Quota(quota["metadata"]["name"], resource, amount(hard), amount(used.get(resource, "0")))
        for resource, hard in quota["spec"].get("hard", {}).items()
    ]


def node_of(node: JsonObject) -> Node:
    """Return what is needed of a Node object."""
    conditions = {found["type"]: found["status"] for found in node["status"].get("conditions", ())}
    closed = node["spec"].get("unschedulable", False) or any(
        taint["effect"] != "PreferNoSchedule" for taint in node["spec"].get("taints", ())
    )
    allocatable = node["status"]["allocatable"]
    info = node["status"]["nodeInfo"]
    return Node(
        node["metadata"]["name"],
        conditions.get("Ready") == "True" and not closed,
        {name: amount(allocatable[name]) for name in ("cpu", "memory", "pods")},
        info["kernelVersion"],
        info["containerRuntimeVersion"],
    )
