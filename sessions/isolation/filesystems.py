"""Isolation checks of file systems and devices."""

import re
from typing import Final

from kernel_image import contract
from sessions.isolation.check import (
    HELP_OPTION,
    CheckFailed,
    Expected,
    Facts,
    IsolationCheck,
    agree,
    none_of,
)

_ENGINE_MOUNTS: Final = re.compile(r"/|/(proc|sys|dev)(/.*)?|/etc/(resolv\.conf|hostname|hosts)")
"""Where an engine mounts something by itself: the root, the kernel's file systems, files with names."""
_NAME_FILES: Final = frozenset({"/etc/resolv.conf", "/etc/hostname", "/etc/hosts"})
_READ_ONLY: Final = ("/", "/sys", "/proc/sys")
_MESSAGE_QUEUES: Final = "/dev/mqueue"
_DEVICES: Final = frozenset(
    f"/dev/{name}"
    for name in ("console", "full", "null", "ptmx", "pts/ptmx", "random", "tty", "urandom", "zero")
)
_MAX_INODES: Final = 1 << 20


def _root(facts: Facts, _: Expected) -> str:
    mounts = facts["mounts"]
    unprotected = (p for p in _READ_ONLY if p not in mounts or "ro" not in mounts[p]["options"])
    none_of(unprotected, "not read-only")
    return f"read-only: {', '.join(_READ_ONLY)}"


def _mounts(facts: Facts, expected: Expected) -> str:
    mounts, spaces = facts["mounts"], facts["spaces"]
    none_of((p for p in mounts if p not in spaces and not _ENGINE_MOUNTS.fullmatch(p)), "also mounted")
    if "read-only names" not in expected.unsupported:
        none_of((p for p in _NAME_FILES & set(mounts) if "ro" not in mounts[p]["options"]), "not read-only")
    none_of(facts["engine sockets"], "sockets of a container engine")
    none_of(set(facts["writable"]) - set(spaces) - {_MESSAGE_QUEUES}, "can be written to")
    return f"nothing of the host's; only {', '.join(spaces)} can be written to"


def _spaces(facts: Facts, expected: Expected) -> str:
    limits, unsupported = expected.limits, expected.unsupported
    for place, space in facts["spaces"].items():
        mount = facts["mounts"].get(place)
        if mount is None or mount["kind"] != "tmpfs":
            raise CheckFailed(f"{place} is not a tmpfs of its own")
        if "mount options" not in unsupported:
            none_of({"nosuid", "nodev"} - set(mount["options"]), f"{place} lacks")
        size = limits.workspace_bytes if place == contract.WORKSPACE else limits.tmp_bytes
        agree(space["bytes"], size, f"the size of {place} in bytes")
        if "inode limits" not in unsupported and not 0 < space["inodes"] <= _MAX_INODES:
            raise CheckFailed(f"{place} has no limit of inodes")
    more = "" if unsupported else ", nosuid, nodev, of limited inodes"
    return f"{len(facts['spaces'])} tmpfs of limited size{more}"


def _devices(facts: Facts, _: Expected) -> str:
    none_of((name for name in facts["devices"] if name not in _DEVICES), "there are")
    return "none but null, zero, random and terminals"


CHECKS: Final = (
    IsolationCheck("read-only root", _root, HELP_OPTION),
    IsolationCheck("mounts", _mounts, HELP_OPTION),
    IsolationCheck("writable folders", _spaces, HELP_OPTION),
    IsolationCheck("devices", _devices, HELP_OPTION),
)
