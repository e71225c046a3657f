"""One line of the doctor's report."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, what was seen of it, and what helps unless it is well."""

    check: str
    level: Level
    seen: str
    remedy: str = ""


def failed(findings: Iterable[Finding]) -> bool:
    """Whether the service cannot work, or not safely."""
    return any(finding.level == "fail" for finding in findings)
