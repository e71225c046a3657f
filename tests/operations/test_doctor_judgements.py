"""What the doctor makes of what was found: on other engines, machines and versions than this one's."""

from dataclasses import replace

import pytest

from service.doctor.engine import judge_clock, judge_engine
from service.doctor.finding import Finding
from service.doctor.limits import judge_isolation, judge_limits, judge_memory
from service.doctor.machine import Disk, check_port, judge_clocks, judge_disk, judge_keys
from sessions.isolation.check import CheckResult
from sessions.isolation.limit_checks import LimitChecks, MemoryCheck
from sessions.models import EngineFacts, Limits
from tests.support.process import ROOT

MIB = 1 << 20
GIB = 1 << 30

FACTS = EngineFacts(
    version="28.2.2",
    storage_driver="overlay2",
    cgroup_version="2",
    cgroup_driver="systemd",
    missing_limits=(),
    security=("seccomp", "cgroupns"),
    live_restore=False,
    default_runtime="runc",
    runtimes=("runc",),
    warnings=(),
    kernel="6.1.0-18-amd64",
    system="Debian GNU/Linux 12 (bookworm)",
    cpus=8,
    memory_bytes=16 * GIB,
    folder="/var/lib/docker",
    clock_ahead_sec=0.0,
    is_local=True,
)
LIMITS = Limits(704 * MIB, cpus=1.0, pids=256, workspace_bytes=128 * MIB, tmp_bytes=64 * MIB, lease_sec=60)
SOUND = LimitChecks(
    files={"/workspace": (128 * MIB, "ENOSPC"), "/tmp": (63 * MIB, "ENOSPC")},
    processes=(249, "EAGAIN"),
    cpus_used=1.01,
    throttled=9,
    machine_cpus=8,
    share=MemoryCheck(128 * MIB, 112 * MIB, "MemoryLimitExceeded"),
    container=MemoryCheck(704 * MIB, 640 * MIB, "MemoryLimitExceeded"),
    clock_ahead_sec=0.01,
)


def levels(findings: list[Finding]) -> dict[str, str]:
    """What is not well, by check."""
    return {finding.check: finding.level for finding in findings if finding.level != "ok"}


# The engine ------------------------------------------------------------------------------------


def test_a_sound_engine_has_nothing_said_of_it() -> None:
    """Nor one that warns of what nothing here needs."""
    assert levels(judge_engine(FACTS)) == {}
    assert levels(judge_engine(replace(FACTS, warnings=("WARNING: No blkio throttle support",)))) == {}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (replace(FACTS, version="19.03.15"), {"engine": "warn"}),
        (replace(FACTS, storage_driver="vfs"), {"storage driver": "warn"}),
        (replace(FACTS, missing_limits=("PidsLimit",)), {"cgroups": "fail"}),
        (replace(FACTS, cgroup_driver="none", security=("seccomp", "rootless")), {"cgroups": "fail"}),
        (replace(FACTS, security=("apparmor",)), {"security options": "fail"}),
        (replace(FACTS, kernel="4.19.0-26-amd64"), {"host's kernel": "warn"}),
        (
            replace(FACTS, warnings=("API is accessible on http://0.0.0.0:2375 without encryption.",)),
            {"engine's warning": "warn"},
        ),
    ],
)
def test_each_fact_that_is_otherwise_is_found(facts: EngineFacts, expected: dict[str, str]) -> None:
    """It is its own line, and no other changes."""
    assert levels(judge_engine(facts)) == expected


@pytest.mark.parametrize(("ahead", "level"), [(-0.4, "ok"), (4.0, "ok"), (-30.0, "warn"), (3600.0, "fail")])
def test_clocks_may_differ_by_little(ahead: float, level: str) -> None:
    """Seconds are a warning, minutes end sessions too early or too late."""
    assert judge_clock("clock", ahead).level == level


# Limits ----------------------------------------------------------------------------------------


def test_limits_that_hold_are_well() -> None:
    """And so are those that need not be tried."""
    assert levels(judge_limits(SOUND, LIMITS)) == {}
    assert levels(judge_limits(replace(SOUND, processes=None), LIMITS)) == {}


@pytest.mark.parametrize(
    ("exceeded", "expected"),
    [
        (replace(SOUND, share=MemoryCheck(128 * MIB, 160 * MIB, None)), {"memory of the code": "fail"}),
        (
            replace(SOUND, container=MemoryCheck(704 * MIB, 880 * MIB, None)),
            {"memory of a container": "fail"},
        ),
        (
            replace(SOUND, container=MemoryCheck(704 * MIB, 300 * MIB, "KernelDied")),
            {"memory of a container": "fail"},
        ),
        (replace(SOUND, processes=(288, None)), {"processes": "fail"}),
        (replace(SOUND, processes=(100, "ENOMEM")), {"processes": "fail"}),
        (replace(SOUND, cpus_used=1.9, throttled=0), {"CPU": "fail"}),
        (replace(SOUND, cpus_used=0.6, throttled=0), {"CPU": "warn"}),
        (replace(SOUND, cpus_used=0.6, throttled=0, machine_cpus=1), {}),
        (replace(SOUND, files=SOUND.files | {"/tmp": (80 * MIB, None)}), {"disks of a container": "fail"}),
        (replace(SOUND, files=SOUND.files | {"/tmp": (9, "EIO")}), {"disks of a container": "fail"}),
        (replace(SOUND, clock_ahead_sec=-90.0), {"clock of a kernel": "fail"}),
    ],
)
def test_each_limit_that_does_not_hold_is_found(exceeded: LimitChecks, expected: dict[str, str]) -> None:
    """It is its own line, and no other changes."""
    assert levels(judge_limits(exceeded, LIMITS)) == expected


def test_each_failed_isolation_check_has_a_finding() -> None:
    """All that hold are one."""
    holds = CheckResult("user", True, "uid 1000", "")
    missing = CheckResult("CPU", False, "no quota", "give it one")
    assert levels(judge_isolation([holds, holds])) == {}
    (finding,) = judge_isolation([holds, missing])
    assert (finding.check, finding.level, finding.remedy) == ("isolation: CPU", "fail", "give it one")


@pytest.mark.parametrize(
    ("ready", "containers", "machine", "level"),
    [(2, 16, 24 * GIB, "ok"), (2, 16, 8 * GIB, "warn"), (70, 4, 8 * GIB, "fail"), (1, 1, 512 * MIB, "fail")],
)
def test_what_may_run_has_to_fit_the_machine(ready: int, containers: int, machine: int, level: str) -> None:
    """What always runs, and one container, must; what might is a warning with a number that fits."""
    finding = judge_memory(LIMITS, 120 * MIB, ready, containers, machine)
    assert finding.level == level
    if level == "warn":
        assert "MAX_CONTAINERS=10 " in finding.remedy


# The machine -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("disk", "level"),
    [
        (Disk(50 * GIB, 10_000_000), "ok"),
        (Disk(50 * GIB, None), "ok"),
        (Disk(500 * MIB, 10_000_000), "warn"),
        (Disk(50 * MIB, 10_000_000), "fail"),
        (Disk(50 * GIB, 5_000), "warn"),
        (Disk(50 * GIB, 10), "fail"),
        (Disk(50 * GIB, 10_000_000, "Permission denied"), "fail"),
        (Disk(50 * GIB, 10_000_000, None, 2.5), "warn"),
    ],
)
def test_disks_need_room_and_have_to_take_what_is_written(disk: Disk, level: str) -> None:
    """Bytes, inodes, a file that can be written, and not too slowly."""
    assert judge_disk("disk", ROOT, disk, ours=True).level == level


@pytest.mark.parametrize(
    ("now", "wall", "monotonic", "level"),
    [
        (1.8e9, 9.0, 9.1, "ok"),
        (1.8e9, 69.0, 9.0, "warn"),
        (1.8e9, 2.0, 9.0, "warn"),
        (86_400.0, 9.0, 9.0, "fail"),
    ],
)
def test_a_clock_that_was_never_or_just_set_is_found(
    now: float, wall: float, monotonic: float, level: str
) -> None:
    """By its date, and by the clock that nobody sets."""
    assert judge_clocks(now, wall, monotonic).level == level


@pytest.mark.parametrize(
    ("host", "needs_key", "level"),
    [
        ("127.0.0.1", False, "ok"),
        ("::1", False, "ok"),
        ("0.0.0.0", True, "ok"),
        ("0.0.0.0", False, "warn"),
        ("10.0.0.7", False, "warn"),
    ],
)
def test_where_others_can_call_they_need_a_key(host: str, needs_key: bool, level: str) -> None:
    """Without one, whoever reaches the port reads every file."""
    assert judge_keys(host, needs_key=needs_key).level == level


@pytest.mark.parametrize(("host", "level"), [("127.0.0.1", "ok"), ("192.0.2.1", "fail")])
async def test_an_address_that_is_not_this_machines_cannot_be_had(host: str, level: str) -> None:
    """The service would not start there."""
    assert (await check_port(host, 0)).level == level
