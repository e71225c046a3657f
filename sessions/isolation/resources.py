"""Isolation checks of resource limits: which limits are set. `limit_checks` exceeds them."""

from typing import Final

from sessions.isolation.check import (
    HELP_LIMIT,
    HELP_OPTION,
    CheckFailed,
    Expected,
    Facts,
    IsolationCheck,
    agree,
)

_MAX_OPEN_FILES: Final = 65_536
_ROUNDING_BYTES: Final = 1 << 16
"""Linux rounds limits of memory to pages."""


def _memory(facts: Facts, expected: Expected) -> str:
    group, limit = facts["cgroup"], expected.limits.memory_bytes
    found = _bytes(group["memory"])
    if found is None or abs(found - limit) > _ROUNDING_BYTES:
        raise CheckFailed(f"the limit is {group['memory']}, not {limit} bytes")
    return f"{found} bytes"


def _swap(facts: Facts, _: Expected) -> str:
    group = facts["cgroup"]
    if group["swap"] == "0" or group["memory and swap"] == group["memory"] is not None:
        return "none may be used"
    if facts["swap of machine"] == 0:
        return "the machine has none"
    raise CheckFailed("memory has a limit and swap has none")


def _bytes(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _processes(facts: Facts, expected: Expected) -> str:
    limit = expected.limits.pids
    if "process limits" in expected.unsupported:
        return f"at most {limit}, which the supervisor counts"
    agree(facts["cgroup"]["pids"], str(limit), "the limit of processes")
    return f"at most {limit}"


def _cpu(facts: Facts, expected: Expected) -> str:
    quota, period = facts["cgroup"]["quota"], facts["cgroup"]["period"]
    cpus = expected.limits.cpus
    if _bytes(quota) is None or abs(int(quota) / int(period) - cpus) > 0.01:
        raise CheckFailed(f"the quota is {quota} of {period} µs, not {cpus:g} CPUs")
    return f"{cpus:g} CPUs"


def _process_limits(facts: Facts, expected: Expected) -> str:
    found, limits = facts["limits"], expected.limits
    agree(found["core"], 0, "the largest core file")
    agree(found["fsize"], limits.workspace_bytes + limits.tmp_bytes, "the largest file in bytes")
    if not 0 < found["nofile"] <= _MAX_OPEN_FILES:
        raise CheckFailed(f"the number of open files is {found['nofile']}")
    return f"no core files, {found['nofile']} open files, files of {found['fsize']} bytes"


CHECKS: Final = (
    IsolationCheck("memory", _memory, HELP_LIMIT),
    IsolationCheck("swap", _swap, "turn the machine's swap off, or boot it with swapaccount=1"),
    IsolationCheck("processes", _processes, HELP_LIMIT),
    IsolationCheck("CPU", _cpu, HELP_LIMIT),
    IsolationCheck("process limits", _process_limits, HELP_OPTION),
)
