"""What a cluster says of itself, of a namespace and of its nodes, for the doctor. Pure."""

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
"""It is not there; or this service's account may not look."""


@dataclass(frozen=True)
class Quota:
    """A limit of a namespace: of `pods`, `limits.memory` and so on; CPUs, bytes, or a number."""

    name: str
    resource: str
    hard: float
    used: float


@dataclass(frozen=True)
class Node:
    """A machine: whether it takes pods now, what it has for them, and what runs on it."""

    name: str
    takes_pods: bool
    room: Mapping[str, float]
    """Of `cpu`, `memory` in bytes, and `pods`; what has been taken of it is not known."""
    kernel: str
    runtime: str


@dataclass(frozen=True)
class ClusterFacts:
    """What was found, or why not."""

    version: str
    missing: tuple[str, ...]
    """What this service's account may not do with pods, and has to."""
    reads_events: bool
    labels: Mapping[str, str] | Unseen
    """The namespace's."""
    quotas: Sequence[Quota] | Unseen
    runtime_class: Literal["there"] | Unseen
    """The one that is asked for; `there` if none is."""
    nodes: Sequence[Node] | Unseen


def amount(quantity: str) -> float:
    """Kubernetes' notation of a number: `250m`, `1Gi`. Raises ValueError."""
    found = _QUANTITY.fullmatch(quantity)
    if found is None:
        raise ValueError(f"{quantity!r} is no quantity")
    return float(found[1]) * _UNITS[found[2]]


def quotas_of(quota: JsonObject) -> list[Quota]:
    """The limits of one ResourceQuota."""
    used = quota.get("status", {}).get("used", {})
    return [
        Quota(quota["metadata"]["name"], resource, amount(hard), amount(used.get(resource, "0")))
        for resource, hard in quota["spec"].get("hard", {}).items()
    ]


def node_of(node: JsonObject) -> Node:
    """One node."""
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
