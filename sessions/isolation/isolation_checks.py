"""All isolation checks, applied to what a probe found in a container. Pure."""

from collections.abc import Collection
from typing import Final

from sessions.containers.engine import Feature
from sessions.isolation import filesystems, networks, privileges, resources
from sessions.isolation.check import HELP_IMAGE, CheckResult, Expected, Facts, IsolationCheck
from sessions.models import Limits

CHECKS: Final[tuple[IsolationCheck, ...]] = (
    *privileges.CHECKS,
    *filesystems.CHECKS,
    *resources.CHECKS,
    *networks.CHECKS,
)


def check_isolation(
    facts: Facts, limits: Limits, user_id: int | None, unsupported: Collection[Feature] = ()
) -> tuple[CheckResult, ...]:
    """Apply every check to what a probe found.

    Args:
        facts: the probe's findings.
        limits: the container's limits.
        user_id: the uid that the container's code has to run as.
        unsupported: what the container's engine cannot set. Each has a substitute:
            mount options: user code gains no privileges and makes no device, which other checks try;
            inode limits: files are charged to the container's memory;
            process limits: the supervisor counts processes;
            read-only names: the files belong to root, and the probe tries to write to them in any case.
    """
    expected = Expected(limits, user_id, unsupported)
    return tuple(check.result(facts, expected) for check in CHECKS)


def probe_failed(reason: str) -> CheckResult:
    """Return the result that replaces all others if the probe reported nothing."""
    return CheckResult("probe", False, reason, HELP_IMAGE)
