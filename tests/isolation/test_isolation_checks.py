"""The isolation checks, also with facts from kernels and engines other than this machine's."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from sessions.isolation.check import CheckResult
from sessions.isolation.isolation_checks import check_isolation
from sessions.models import Limits
from tests.conftest import docker_only
from tests.support.process import Service

pytestmark = docker_only("a pod has other facts: see test_every_isolation_check_holds_on_a_pod")

MIB = 1024 * 1024
PROBE = "from kernel_image.confinement.probe import main; main()"
TARGETS = {"tcp": {"host": [], "service": [], "kernels": []}, "udp": []}

Facts = dict[str, Any]


@pytest.fixture(scope="module")
def found(service: Service) -> Facts:
    """Return what the probe finds in a kernel of the shared service, without addresses to reach."""
    with service.api.open_stream(PROBE, stdin=json.dumps(TARGETS)) as events:
        text = "".join(event.data["data"] for event in events if event.type == "output")
    facts: Facts = json.loads(text) | {"received": []}
    assert facts["unknown"] == {}
    return facts


@pytest.fixture
def facts(found: Facts) -> Facts:
    """Return a copy of the facts, which a test may change."""
    return copy.deepcopy(found)


def limits_of(facts: Facts) -> Limits:
    """Return the limits that the service asked for."""
    memory = int(facts["cgroup"]["memory"])
    return Limits(
        memory,
        cpus=1.0,
        pids=256,
        workspace_bytes=128 * MIB,
        tmp_bytes=64 * MIB,
        lease_sec=60,
        idle_cpu_sec=5,
    )


def missing(facts: Facts, limits: Limits | None = None, user_id: int | None = None) -> dict[str, str]:
    """Return the checks that fail, and why. By default, the limits and the uid are the container's own."""
    own_id = int(facts["status"]["Uid"].split()[0])
    limits, user_id = limits or limits_of(facts), user_id or own_id
    checks: tuple[CheckResult, ...] = check_isolation(facts, limits, user_id)
    return {check.name: check.detail for check in checks if not check.ok}


def test_sound_container_passes_all_checks(facts: Facts) -> None:
    """No check fails."""
    assert missing(facts) == {}


def test_check_without_its_fact_fails(facts: Facts) -> None:
    """A missing fact fails every check that needs it, with the reason."""
    for name in ("cgroup", "ipv6"):
        del facts[name]
    facts["unknown"] = {"cgroup": "OSError: no such file"}
    expected = {"memory", "swap", "processes", "CPU", "IPv6"}
    limits = Limits(
        1, cpus=1.0, pids=256, workspace_bytes=128 * MIB, tmp_bytes=64 * MIB, lease_sec=60, idle_cpu_sec=5
    )
    named = missing(facts, limits)
    assert set(named) == expected
    assert named["memory"] == "could not be looked at: OSError: no such file"


def test_uid_is_that_of_the_launch_and_of_our_range(facts: Facts) -> None:
    """The code must run as the uid that the container was launched with, and as no uid of a person."""
    own_id = int(facts["status"]["Uid"].split()[0])
    assert set(missing(facts, user_id=own_id + 1)) == {"user"}
    for name in ("Uid", "Gid"):
        facts["status"][name] = "1000 1000 1000 1000"
    assert missing(facts, user_id=1000)["user"].startswith("the uid is 1000, not from ")


def test_limits_of_cgroup_version_2_are_understood(facts: Facts) -> None:
    """The checks read `memory.max`, `memory.swap.max`, `pids.max` and `cpu.max`. `max` means no limit."""
    memory = str(limits_of(facts).memory_bytes)
    whole = {"memory": memory, "swap": "0", "memory and swap": None, "pids": "256"}
    facts["cgroup"] = whole | {"quota": "100000", "period": "100000"}
    assert missing(facts) == {}
    limits = limits_of(facts)
    facts["swap of machine"] = MIB
    facts["cgroup"] = whole | {
        "memory": "max",
        "swap": "max",
        "pids": "max",
        "quota": "max",
        "period": "100000",
    }
    assert set(missing(facts, limits)) == {"memory", "swap", "processes", "CPU"}


def test_swap_needs_a_limit_only_if_the_machine_has_swap(facts: Facts) -> None:
    """Without swap accounting, a machine with swap is refused."""
    facts["cgroup"] |= {"swap": None, "memory and swap": None}
    facts["swap of machine"] = 0
    assert missing(facts) == {}
    facts["swap of machine"] = MIB
    assert set(missing(facts)) == {"swap"}


def test_engines_filter_is_found_on_kernels_that_do_not_count_filters(facts: Facts) -> None:
    """Before Linux 5.9, a call that only the engine's filter refuses shows that the filter is in force."""
    del facts["status"]["Seccomp_filters"]
    facts["memory policy"] = "EPERM"
    assert missing(facts) == {}
    facts["memory policy"] = "done"
    assert set(missing(facts)) == {"system call filters"}


def _set(*path: str) -> Callable[[Facts, Any], None]:
    def change(facts: Facts, value: Any) -> None:
        for name in path[:-1]:
            facts = facts[name]
        facts[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "value", "check"),
    [
        (_set("status", "NoNewPrivs"), "0", "new privileges"),
        (_set("status", "Groups"), "0 27", "user"),
        (_set("status", "CapAmb"), "0000000000000400", "capabilities"),
        (_set("first process", "command"), "/sbin/init", "first process"),
        (_set("first process", "attempts", "environ"), "done", "first process"),
        (_set("system calls", "keyctl"), "EINVAL", "system calls"),
        (_set("sockets", "AF_VSOCK"), "done", "sockets"),
        (_set("writable"), ["/sys", "/tmp"], "mounts"),
        (_set("engine sockets"), ["/run/docker.sock"], "mounts"),
        (_set("ipv6"), {"eth0": "done"}, "IPv6"),
        (_set("netlink change"), "done", "network settings"),
        (_set("resolver", "udp"), "done", "Docker's resolver"),
        (_set("supervisor", "127.0.0.1"), "done", "supervisor's port"),
        (_set("received"), ["udp"], "host"),
        (_set("reach", "service"), {"tcp 172.17.0.1:8000": "done"}, "service's port"),
        (_set("reach", "kernels"), {"tcp 172.17.0.3:8701": "done"}, "other kernels"),
    ],
)
def test_each_check_fails_by_its_own_fact(
    facts: Facts, change: Callable[[Facts, Any], None], value: object, check: str
) -> None:
    """One bad fact fails its check and no other."""
    change(facts, value)
    assert set(missing(facts)) == {check}


def test_ipv6_check_holds_if_datagrams_are_refused(facts: Facts) -> None:
    """If the container has IPv6, a datagram to its neighbours has to fail."""
    facts["ipv6"] = {"eth0": "EPERM"}
    assert missing(facts) == {}
