"""The doctor's findings for given facts, also for engines and machines other than this one."""

from dataclasses import replace

import pytest

from service.doctor.engine import judge_clock, judge_engine
from service.doctor.finding import Finding
from service.doctor.limits import judge_isolation, judge_limits, judge_memory
from service.doctor.machine import Disk, check_port, judge_clocks, judge_disk, judge_keys, judge_settings
from sessions.containers.engine_facts import EngineFacts
from sessions.isolation.check import CheckResult
from sessions.isolation.limit_checks import LimitChecks, MemoryCheck
from sessions.models import Limits
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
LIMITS = Limits(
    704 * MIB, cpus=1.0, pids=256, workspace_bytes=128 * MIB, tmp_bytes=64 * MIB, lease_sec=60, idle_cpu_sec=5
)
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
    """Return the levels of the findings that are not ok."""
    return {finding.check: finding.level for finding in findings if finding.level != "ok"}


# The engine ------------------------------------------------------------------------------------


def test_sound_engine_has_no_findings() -> None:
    """Warnings about features that the service does not use are ignored."""
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
def test_each_bad_fact_has_its_finding(facts: EngineFacts, expected: dict[str, str]) -> None:
    """No other finding changes."""
    assert levels(judge_engine(facts)) == expected


@pytest.mark.parametrize(
    ("ahead_sec", "level"), [(-0.4, "ok"), (4.0, "ok"), (-30.0, "warn"), (3600.0, "fail")]
)
def test_clock_differences_are_judged_by_their_size(ahead_sec: float, level: str) -> None:
    """Seconds are ok, half a minute is a warning. An hour fails: sessions would end at the wrong time."""
    assert judge_clock("clock", ahead_sec).level == level


# Limits ----------------------------------------------------------------------------------------


def test_limits_that_hold_have_no_findings() -> None:
    """A limit that is too large to be tried has no finding either."""
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
def test_each_broken_limit_has_its_finding(exceeded: LimitChecks, expected: dict[str, str]) -> None:
    """No other finding changes."""
    assert levels(judge_limits(exceeded, LIMITS)) == expected


def test_each_failed_isolation_check_has_a_finding() -> None:
    """All checks that hold share one finding."""
    passed = CheckResult("user", True, "uid 50000", "")
    missing = CheckResult("CPU", False, "no quota", "give it one")
    assert levels(judge_isolation([passed, passed])) == {}
    (finding,) = judge_isolation([passed, missing])
    assert (finding.check, finding.level, finding.remedy) == ("isolation: CPU", "fail", "give it one")


@pytest.mark.parametrize(
    ("ready", "containers", "machine", "level"),
    [(2, 16, 24 * GIB, "ok"), (2, 16, 8 * GIB, "warn"), (70, 4, 8 * GIB, "fail"), (1, 1, 512 * MIB, "fail")],
)
def test_memory_of_the_machine_is_compared_with_the_settings(
    ready: int, containers: int, machine: int, level: str
) -> None:
    """Ready kernels and one container have to fit. If the maximum does not, a warning names one that does."""
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
def test_disks_need_room_and_must_be_writable(disk: Disk, level: str) -> None:
    """Bytes and inodes are free, and a file can be written fast enough."""
    assert judge_disk("disk", ROOT, disk, ours=True).level == level


@pytest.mark.parametrize(
    ("now", "wall_clock", "monotonic", "level"),
    [
        (1.8e9, 9.0, 9.1, "ok"),
        (1.8e9, 69.0, 9.0, "warn"),
        (1.8e9, 2.0, 9.0, "warn"),
        (86_400.0, 9.0, 9.0, "fail"),
    ],
)
def test_unset_or_adjusted_clock_is_found(
    now: float, wall_clock: float, monotonic: float, level: str
) -> None:
    """An unset clock is found by its date, an adjusted one by comparison with the monotonic clock."""
    assert judge_clocks(now, wall_clock, monotonic).level == level


def test_variables_that_are_no_settings_are_a_warning() -> None:
    """The finding has the sentence about each of them."""
    assert judge_settings(()).level == "ok"
    finding = judge_settings(("POOL_SZE is not a setting and has no effect. Did you mean POOL_SIZE?",))
    assert (finding.level, "POOL_SIZE?" in finding.seen) == ("warn", True)


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
def test_service_that_others_reach_needs_a_key(host: str, needs_key: bool, level: str) -> None:
    """Without a key, everyone who reaches the port can read every file."""
    assert judge_keys(host, needs_key=needs_key).level == level


@pytest.mark.parametrize(("host", "level"), [("127.0.0.1", "ok"), ("192.0.2.1", "fail")])
async def test_address_of_another_machine_is_a_failure(host: str, level: str) -> None:
    """The service could not listen on that address."""
    assert (await check_port(host, 0)).level == level
