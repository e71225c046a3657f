"""Findings about a Kubernetes cluster, a namespace, and the room for pods. Pure."""

import re
from collections.abc import Mapping
from typing import Final

from service.doctor.finding import Finding
from sessions.containers.kubernetes.facts import ClusterFacts, Node, Quota, amount

_OLDEST: Final = (1, 20)
_SIZED_VOLUMES: Final = (1, 22)
_ENFORCES: Final = "pod-security.kubernetes.io/enforce"
_PRIVILEGED: Final = "privileged"
_ROLE: Final = "give it the Role of deploy/chart/templates/rbac.yaml"
_MAY_NOT: Final = "not looked at: this service's account has no right to, and needs none"
_SHORT: Final = {"count/pods": "pods", "cpu": "requests.cpu", "memory": "requests.memory"}
"""Quota names that mean the same as another name."""


def judge_cluster(facts: ClusterFacts, namespace: str, runtime: str | None) -> list[Finding]:
    """Judge version, account, namespace, and the RuntimeClass if the settings name one."""
    found = [_version(facts.version), _rights(facts), _namespace(facts, namespace)]
    return [*found, _runtime(facts, runtime)] if runtime else found


def _version(version: str) -> Finding:
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < _OLDEST:
        return Finding("cluster", "fail", version, "upgrade it to 1.23 or newer")
    if numbers < _SIZED_VOLUMES:
        seen = f"{version}: memory volumes have a size limit only with the gate SizeMemoryBackedVolumes"
        return Finding("cluster", "warn", seen, "upgrade it to 1.23 or newer; or enable that gate")
    return Finding("cluster", "ok", version)


def _rights(facts: ClusterFacts) -> Finding:
    if facts.missing:
        return Finding("rights", "fail", f"the account may not {', '.join(facts.missing)} pods", _ROLE)
    if not facts.reads_events:
        seen = "the account may not list events, which say why a pod does not start"
        return Finding("rights", "warn", seen, _ROLE)
    return Finding("rights", "ok", "all that is needed with pods, and events")


def _namespace(facts: ClusterFacts, name: str) -> Finding:
    labels = facts.labels
    if labels == "missing":
        return Finding(
            "namespace", "fail", f"there is no namespace {name}", "create it, or set KUBERNETES_NAMESPACE"
        )
    if isinstance(labels, str):
        return Finding("namespace", "ok", f"{name}; its labels: {_MAY_NOT}")
    enforced = labels.get(_ENFORCES)
    if enforced not in (None, _PRIVILEGED):
        help_ = f"kubectl label --overwrite namespace {name} {_ENFORCES}={_PRIVILEGED}"
        seen = f"{name} enforces pod security {enforced!r}, which refuses NET_ADMIN and root for PID 1"
        return Finding("namespace", "fail", seen, help_)
    label = f"pod security is {enforced}" if enforced else "without a label of pod security"
    return Finding("namespace", "ok", f"{name}, {label}")


def _runtime(facts: ClusterFacts, name: str) -> Finding:
    if facts.runtime_class == "missing":
        seen = f"there is no RuntimeClass {name} (KERNEL_RUNTIME)"
        return Finding("runtime", "fail", seen, "`kubectl get runtimeclasses` lists them")
    seen = name if facts.runtime_class == "there" else f"RuntimeClass {name}: {_MAY_NOT}"
    return Finding("runtime", "ok", seen)


def judge_room(facts: ClusterFacts, needed: Mapping[str, str], ready: int, most: int) -> list[Finding]:
    """Judge whether quotas and nodes have room.

    Args:
        facts: what the cluster reports.
        needed: what one pod takes, see `sessions.containers.kubernetes.manifest.needs`.
        ready: number of kernels kept ready.
        most: maximum number of pods.
    """
    needs = {name: amount(quantity) for name, quantity in needed.items()}
    return [_quotas(facts, needs, ready, most), _nodes(facts, needs, ready, most)]


def _quotas(facts: ClusterFacts, needs: Mapping[str, float], ready: int, most: int) -> Finding:
    if isinstance(facts.quotas, str):
        return Finding("quotas", "ok", _MAY_NOT)
    counted = {quota: needs[name] for quota in facts.quotas if (name := _name(quota)) in needs}
    if not counted:
        return Finding("quotas", "ok", "none of pods, CPUs or memory")
    tightest = min(counted, key=lambda quota: _fitting(quota.hard, counted[quota]))
    left = min(_fitting(quota.hard - quota.used, need) for quota, need in counted.items())
    fitting = _fitting(tightest.hard, counted[tightest])
    seen = (
        f"room for {left} more pods of {fitting} in all, by {tightest.resource} of {tightest.name}; "
        f"{ready} are kept ready, {most} at once are allowed"
    )
    help_ = f"raise the quota, or set MAX_CONTAINERS={max(1, fitting)}"
    if fitting < max(1, ready):
        return Finding("quotas", "fail", seen, f"{help_}, and POOL_SIZE to less")
    return Finding("quotas", "ok" if fitting >= most else "warn", seen, help_ if fitting < most else "")


def _name(quota: Quota) -> str:
    return _SHORT.get(quota.resource, quota.resource)


def _nodes(facts: ClusterFacts, needs: Mapping[str, float], ready: int, most: int) -> Finding:
    if isinstance(facts.nodes, str):
        return Finding("nodes", "ok", _MAY_NOT)
    open_ = [node for node in facts.nodes if node.takes_pods]
    if not open_:
        seen = f"none of the {len(facts.nodes)} nodes with the labels of the settings takes pods"
        return Finding("nodes", "fail", seen, "see `kubectl get nodes`, and KUBERNETES_NODE_SELECTOR")
    fitting = sum(_fits(node, needs) for node in open_)
    kinds = sorted({f"{node.runtime} on Linux {node.kernel}" for node in open_})
    seen = (
        f"{len(open_)} of {len(facts.nodes)} take pods, with room for {fitting} kernels if nothing else ran "
        f"there; {', '.join(kinds)}"
    )
    help_ = f"more nodes, or MAX_CONTAINERS={max(1, fitting)}"
    if fitting < max(1, ready):
        return Finding("nodes", "fail", seen, help_)
    return Finding("nodes", "ok" if fitting >= most else "warn", seen, help_ if fitting < most else "")


def _fits(node: Node, needs: Mapping[str, float]) -> int:
    wanted = {"cpu": needs["requests.cpu"], "memory": needs["requests.memory"], "pods": needs["pods"]}
    return min(_fitting(node.room[name], need) for name, need in wanted.items())


def _fitting(room: float, need: float) -> int:
    return max(0, int((room + need / 1e6) // need))
