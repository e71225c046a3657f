"""Findings about a kernel: isolation checks, limits, and whether the machine has the memory. Pure."""

from collections.abc import Sequence
from typing import Final

from service.doctor.engine import judge_clock
from service.doctor.finding import Finding, Level
from sessions.isolation.check import CheckResult
from sessions.isolation.limit_checks import LimitChecks, MemoryCheck
from sessions.models import Limits

_MIB: Final = 1 << 20
_TOLERANCE: Final = 1.03
_CPU_TOLERANCE: Final = 1.25
_CGROUP: Final = "see which limits the engine warns of (`docker info`), and give its host that cgroup"
_OPTION: Final = "let neither the engine's configuration nor its runtime change what the service asks for"
_MACHINE_SHARE: Final = 0.9
"""Share of the machine's memory for kernels; service, engine and system use the rest."""


def judge_isolation(checks: Sequence[CheckResult]) -> list[Finding]:
    """Return a finding for each isolation check that fails, or one finding if all hold."""
    failures = [
        Finding(f"isolation: {check.name}", "fail", check.detail, check.advice)
        for check in checks
        if not check.ok
    ]
    return failures or [Finding("isolation", "ok", f"all {len(checks)} checks of the self-test hold")]


def judge_limits(exceeded: LimitChecks, limits: Limits) -> list[Finding]:
    """Return a finding for each limit: whether it held when it was exceeded."""
    return [
        _memory("memory of the code", exceeded.share),
        _memory("memory of a container", exceeded.container),
        _processes(exceeded.processes, limits),
        _cpu(exceeded, limits),
        _files(exceeded, limits),
        judge_clock("clock of a kernel", exceeded.clock_ahead_sec),
    ]


def _memory(what: str, tried: MemoryCheck) -> Finding:
    limit, held = tried.limit_bytes // _MIB, tried.held_bytes // _MIB
    if tried.ended is None:
        return Finding(what, "fail", f"{held} MiB could be allocated, of {limit} allowed", _CGROUP)
    if tried.ended != "MemoryLimitExceeded":
        return Finding(what, "fail", f"at {held} MiB it ended otherwise: {tried.ended}", _OPTION)
    return Finding(what, "ok", f"ended at the limit of {limit} MiB")


def _processes(tried: tuple[int, str | None] | None, limits: Limits) -> Finding:
    if tried is None:
        return Finding("processes", "ok", f"{limits.pids} are too many to try")
    started, ended = tried
    if ended == "killed":
        return Finding("processes", "ok", f"{started} were killed at once: more than {limits.pids} in all")
    if ended != "EAGAIN" or started > limits.pids:
        return Finding("processes", "fail", f"{started} could be started, of {limits.pids} allowed", _CGROUP)
    return Finding("processes", "ok", f"{started} of the code's own, then no more: {limits.pids} in all")


def _cpu(exceeded: LimitChecks, limits: Limits) -> Finding:
    seen = f"{exceeded.cpus_used:.2f} CPUs were used, of {limits.cpus:g} allowed"
    if exceeded.cpus_used > limits.cpus * _CPU_TOLERANCE:
        return Finding("CPU", "fail", seen, _CGROUP)
    if exceeded.throttled or exceeded.machine_cpus <= limits.cpus:
        return Finding("CPU", "ok", seen)
    return Finding("CPU", "warn", f"{seen}: it was never throttled, which proves nothing", "try again later")


def _files(exceeded: LimitChecks, limits: Limits) -> Finding:
    largest = max(limits.workspace_bytes, limits.tmp_bytes)
    broken = [
        f"{place} took {written // _MIB} MiB{f' and {ended}' if ended else ''}"
        for place, (written, ended) in exceeded.files.items()
        if ended != "ENOSPC" or written > largest * _TOLERANCE
    ]
    if broken:
        return Finding("disks of a container", "fail", "; ".join(broken), _OPTION)
    full = ", ".join(f"{place} {written // _MIB}" for place, (written, _) in exceeded.files.items())
    return Finding("disks of a container", "ok", f"full in order, at MiB: {full}")


def judge_memory(limits: Limits, idle_bytes: int, ready: int, containers: int, machine_bytes: int) -> Finding:
    """Judge whether the machine has the memory for the containers that may run.

    Args:
        limits: limits of one container.
        idle_bytes: memory of a ready kernel.
        ready: number of kernels kept ready.
        containers: maximum number of containers.
        machine_bytes: memory of the engine's machine.
    """
    usable = int(machine_bytes * _MACHINE_SHARE)
    waiting, worst = ready * idle_bytes, containers * limits.memory_bytes
    fitting = max(1, usable // limits.memory_bytes)
    seen = (
        f"{ready} ready kernels use {waiting // _MIB} MiB, {containers} containers at their limits "
        f"{worst // _MIB} MiB, of {machine_bytes // _MIB} MiB"
    )
    level: Level = "warn" if worst > usable else "ok"
    if max(waiting, limits.memory_bytes) > usable:
        level = "fail"
    sizes = "SESSION_MEMORY_LIMIT_MB, MEMORY_LIMIT_MB, WORKSPACE_SIZE_MB, TMP_SIZE_MB"
    help_ = f"MAX_CONTAINERS={fitting} always fits; or less {sizes}"
    return Finding("memory", level, seen, "" if level == "ok" else help_)
