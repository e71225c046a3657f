"""One line of the doctor's report."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """Name of the check, its result, what was seen, and what to do unless it is ok."""

    check: str
    level: Level
    seen: str
    remedy: str = ""


def failed(findings: Iterable[Finding]) -> bool:
    """Whether the service cannot work, or not safely: a finding has the level `fail`."""
    return any(finding.level == "fail" for finding in findings)
