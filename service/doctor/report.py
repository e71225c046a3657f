"""The doctor's findings as a table, and as JSON."""

import json
import textwrap
from collections.abc import Sequence
from typing import Final

import service
from service.doctor.finding import Finding, failed

_WIDTH: Final = 110
_MARKS: Final = {"ok": "ok", "warn": "WARN", "fail": "FAIL"}


def table(findings: Sequence[Finding]) -> str:
    """Return a table: check, result, what was seen; below that what to do."""
    first = max([len("check"), *(len(finding.check) for finding in findings)])
    indent = " " * (first + 8)
    width = max(40, _WIDTH - len(indent))
    lines = [f"{'check':<{first}}  how   what was seen"]
    for finding in findings:
        seen = textwrap.wrap(" ".join(finding.seen.split()), width, break_on_hyphens=False) or [""]
        lines.append(f"{finding.check:<{first}}  {_MARKS[finding.level]:<4}  {seen[0]}")
        lines.extend(indent + line for line in seen[1:])
        if finding.remedy and finding.level != "ok":
            lines.extend(indent + line for line in textwrap.wrap(f"-> {finding.remedy}", width))
    return "\n".join([*lines, "", summary(findings)])


def summary(findings: Sequence[Finding]) -> str:
    """Return the last line of the table."""
    warnings = sum(finding.level == "warn" for finding in findings)
    failures = sum(finding.level == "fail" for finding in findings)
    if not failures:
        return f"It can serve; {_count(warnings, 'warning')}." if warnings else "All is well."
    return f"{_count(failures, 'failure')}, {_count(warnings, 'warning')}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def as_json(findings: Sequence[Finding]) -> str:
    """Return an object with `version`, `ok`, and `findings` with the fields of `Finding`."""
    listed = [vars(finding) for finding in findings]
    report = {"version": service.__version__, "ok": not failed(findings), "findings": listed}
    return json.dumps(report, indent=2)
