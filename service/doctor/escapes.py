"""Versions with known ways out of a container, or out of its limits. Pure.

Distributions repair old versions without a new number: theirs are judged by their changelog, and where
there is none nobody can tell.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from service.doctor.finding import Finding

Version = tuple[int, int, int, float]

_VERSION: Final = re.compile(
    r"v?(?P<major>\d+)\.(?P<minor>\d+)(?:\.(?P<patch>\d+))?(?:[-~]?(?:rc|beta|alpha)[.-]?(?P<pre>\d+))?"
)
_ENGINE: Final = "Engine"


@dataclass(frozen=True)
class Flaw:
    """Known ways out; `fixed` are the first versions without them, one for each line of versions."""

    names: tuple[str, ...]
    component: str
    fixed: tuple[str, ...]
    what: str


FLAWS: Final = (
    Flaw(("CVE-2019-5736",), "runc", ("1.0.0-rc7",), "the host's runc can be overwritten"),
    Flaw(("CVE-2021-30465",), "runc", ("1.0.0-rc95",), "links lead mounts out of the root"),
    Flaw(("CVE-2024-21626",), "runc", ("1.1.12",), "a descriptor of the host's file system stays open"),
    Flaw(
        ("CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"),
        "runc",
        ("1.2.8", "1.3.3", "1.4.0-rc.3"),
        "mounts and writes to /proc can be led elsewhere",
    ),
    Flaw(("CVE-2020-15257",), "containerd", ("1.3.9", "1.4.3"), "its socket is open to host networks"),
    Flaw(("CVE-2019-14271",), _ENGINE, ("19.3.1",), "docker cp runs code of the container's"),
)


def parse(text: str) -> tuple[Version, bool] | None:
    """A version that can be compared, and whether a distribution changed it; None if it is none."""
    found = _VERSION.match(text)
    if found is None:
        return None
    pre = math.inf if found["pre"] is None else float(found["pre"])
    version = (int(found["major"]), int(found["minor"]), int(found["patch"] or 0), pre)
    return version, bool(text[found.end() :].strip())


def is_fixed(version: Version, fixed: tuple[str, ...]) -> bool:
    """Whether a version is at or after the fix of its line, or of a line after all that needed one."""
    fixes = [found[0] for found in map(parse, fixed) if found is not None]
    same_line = [fix for fix in fixes if fix[:2] == version[:2]]
    return version >= same_line[0] if same_line else version > max(fixes)


def judge(engine: str, components: Mapping[str, str], changelogs: Mapping[str, str]) -> list[Finding]:
    """Hold the engine's version and those of its components against the known flaws.

    Args:
        changelogs: of the packages that are installed here in these very versions, by component.
    """
    versions = {_ENGINE: engine, **{name: text for name, text in components.items() if name != _ENGINE}}
    return [
        _judge(component, text, changelogs.get(component))
        for component, text in versions.items()
        if any(flaw.component == component for flaw in FLAWS)
    ]


def _judge(component: str, text: str, changelog: str | None) -> Finding:
    name = f"{component.lower()} version"
    found = parse(text)
    upgrade = f"upgrade {'the Docker engine' if component == _ENGINE else component}"
    if found is None:
        return Finding(name, "warn", f"{text!r} tells nothing", f"see for yourself what {component} that is")
    version, is_distributions = found
    flaws = [flaw for flaw in FLAWS if flaw.component == component and not is_fixed(version, flaw.fixed)]
    repaired = changelog if is_distributions and changelog is not None else ""
    open_ = [flaw for flaw in flaws if any(name not in repaired for name in flaw.names)]
    if not open_:
        names = ", ".join(name for flaw in flaws for name in flaw.names)
        return Finding(
            name, "ok", f"{text}: no known escape{f'; its packager repaired {names}' * bool(names)}"
        )
    listed = "; ".join(
        f"{', '.join(flaw.names)} ({flaw.what}; fixed in {', '.join(flaw.fixed)})" for flaw in open_
    )
    if not is_distributions:
        return Finding(name, "fail", f"{text} has {listed}", upgrade)
    evidence = "its changelog does not name all of these" if repaired else "its changelog is not here"
    return Finding(
        name,
        "warn",
        f"{text} is a distribution's, so the number does not tell, and {evidence}: {listed}",
        f"{upgrade}, or look the names up in the distribution's security tracker",
    )
