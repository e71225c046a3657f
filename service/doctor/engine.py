"""Findings about a Docker engine and a kernel image. Pure."""

import re
from typing import Final

from service.doctor.finding import Finding
from sessions.containers.engine_facts import EngineFacts, Image
from sessions.containers.image_check import judge as judge_labels

_OLDEST_ENGINE: Final = (20, 10)
_OLDEST_KERNEL: Final = (5, 10)
_STORAGE: Final = frozenset({"overlay2", "btrfs", "zfs", "fuse-overlayfs", "overlayfs"})
_EXPECTED_WARNINGS: Final = re.compile(r"blkio|bridge-nf-call|No swap limit support")
"""Warnings that do not matter: the service does not use the first two, and the self-test checks swap."""
_CLOCK_WARN_SEC: Final = 5.0
_CLOCK_FAIL_SEC: Final = 60.0
_LIMIT_NAMES: Final = {"MemoryLimit": "memory", "PidsLimit": "processes", "CpuCfsQuota": "CPU"}


def judge_engine(facts: EngineFacts) -> list[Finding]:
    """Judge an engine's version, storage, cgroups, options and warnings."""
    return [
        _version(facts),
        _storage(facts),
        _cgroups(facts),
        _options(facts),
        *(
            Finding("engine's warning", "warn", warning, "see the engine's documentation")
            for warning in facts.warnings
            if not _EXPECTED_WARNINGS.search(warning)
        ),
        _kernel(facts),
    ]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _version(facts: EngineFacts) -> Finding:
    seen = f"{facts.version} on {facts.system}, {facts.cpus} CPUs, {facts.memory_bytes >> 20} MiB"
    if _numbers(facts.version) < _OLDEST_ENGINE:
        return Finding("engine", "warn", seen, "upgrade it: 20.10 and newer are tested")
    return Finding("engine", "ok", seen)


def _storage(facts: EngineFacts) -> Finding:
    if facts.storage_driver in _STORAGE:
        return Finding("storage driver", "ok", facts.storage_driver)
    help_ = "use overlay2: this one copies whole images, which is slow and fills the disk"
    return Finding("storage driver", "warn", facts.storage_driver, help_)


def _cgroups(facts: EngineFacts) -> Finding:
    seen = f"version {facts.cgroup_version}, driver {facts.cgroup_driver}"
    missing = [_LIMIT_NAMES.get(name, name) for name in facts.missing_limits]
    if missing:
        help_ = "give the engine's host these cgroup controllers; a rootless engine needs them delegated"
        return Finding("cgroups", "fail", f"{seen}; no limits of {', '.join(missing)}", help_)
    if facts.cgroup_driver == "none":
        return Finding("cgroups", "fail", seen, "give the engine cgroup v2, delegated to its user")
    return Finding("cgroups", "ok", seen)


def _options(facts: EngineFacts) -> Finding:
    options = [*facts.security, *(["live-restore"] if facts.live_restore else [])]
    seen = f"{', '.join(options) or 'none'}; runtime {facts.default_runtime}"
    if "seccomp" not in facts.security:
        help_ = "do not start the engine with seccomp off: its system call filter is a part of the isolation"
        return Finding("security options", "fail", f"{seen}: no seccomp", help_)
    return Finding("security options", "ok", seen)


def _kernel(facts: EngineFacts) -> Finding:
    if _numbers(facts.kernel) < _OLDEST_KERNEL:
        help_ = "kernels share it: use 5.10 or newer, unless the distribution still maintains this one"
        return Finding("host's kernel", "warn", facts.kernel, help_)
    return Finding("host's kernel", "ok", facts.kernel)


def judge_image(name: str, image: Image | None, version: str, digest: str | None) -> Finding:
    """Judge whether the kernel image exists, works, and fits this version of the service."""
    if image is None:
        return Finding("image", "fail", f"{name} is not there", "`make image` builds it; or load or pull it")
    verdict = judge_labels(image, version, digest)
    seen = f"{name} ({image.image_id.removeprefix('sha256:')[:12]})"
    if verdict.unfit is not None:
        return Finding(
            "image",
            "fail",
            f"{seen}: {verdict.unfit}",
            "build or name another",
        )
    if verdict.warnings:
        warnings = f"{seen}: {'. '.join(verdict.warnings)}"
        return Finding("image", "warn", warnings, "build it from this version's kernel_image/")
    return Finding("image", "ok", f"{seen}, of this version")


def judge_clock(check: str, ahead_sec: float) -> Finding:
    """Judge whether a clock agrees with this machine's. The time zone does not matter."""
    seen = f"{abs(ahead_sec):.1f} s {'ahead' if ahead_sec > 0 else 'behind'}"
    help_ = "set both machines' clocks by NTP"
    if abs(ahead_sec) < _CLOCK_WARN_SEC:
        return Finding(check, "ok", "as this machine's")
    return Finding(check, "warn" if abs(ahead_sec) < _CLOCK_FAIL_SEC else "fail", seen, help_)
