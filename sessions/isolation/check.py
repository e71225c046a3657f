"""Isolation checks: conditions on the probe's findings, with advice for when they do not hold."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sessions.containers.engine import Feature
from sessions.models import Limits

Facts = Mapping[str, Any]
"""The probe's output, and `received`: which of the self-test's sockets got a connection or a datagram."""

HELP_IMAGE: Final = "build the kernel image anew (`make image`), and from nothing but this version's files"
HELP_LIMIT: Final = "see which limits the container engine warns of (`docker info`), and enable that cgroup"
HELP_OPTION: Final = "let neither the engine's configuration nor its runtime change what the service asks for"
HELP_NETWORK: Final = "enable nf_tables in the host's kernel, and do not replace the image's start command"


class CheckFailed(Exception):
    """A check does not hold. The text says what was found."""


@dataclass(frozen=True)
class CheckResult:
    """Whether a check holds, and what was found. `advice` says what to do if it does not."""

    name: str
    ok: bool
    detail: str
    advice: str


@dataclass(frozen=True)
class Expected:
    """Limits and uid that the container was launched with."""

    limits: Limits
    user_id: int | None
    """uid that the container was launched with."""
    unsupported: Collection[Feature] = ()
    """Features that its engine cannot set."""


@dataclass(frozen=True)
class IsolationCheck:
    """One thing that user code must not be able to do."""

    name: str
    find: Callable[[Facts, Expected], str]
    """Return what was found. Raise `CheckFailed`, or a LookupError if a fact is missing."""
    advice: str

    def result(self, facts: Facts, expected: Expected) -> CheckResult:
        """Apply the check. It does not hold if a fact that it needs is missing or malformed."""
        try:
            return CheckResult(self.name, True, self.find(facts, expected), self.advice)
        except CheckFailed as failed:
            detail = str(failed)
        except (LookupError, TypeError, ValueError) as error:
            detail = f"could not be looked at: {'; '.join(facts['unknown'].values()) or repr(error)}"
        return CheckResult(self.name, False, detail, self.advice)


def none_of(found: Iterable[str], problem: str) -> None:
    """Fail with `problem` if anything was found."""
    found = sorted(found)
    if found:
        raise CheckFailed(f"{problem}: {', '.join(found)}")


def agree(found: object, expected: object, what: str) -> None:
    """Fail if `what` was found to be other than expected."""
    if found != expected:
        raise CheckFailed(f"{what} is {found}, not {expected}")


def succeeded(outcomes: Mapping[str, str], refusals: frozenset[str] | None = None) -> list[str]:
    """Return the attempts that succeeded.

    With `refusals`, also return those that failed with another error: they might succeed another time.
    """
    return [
        f"{name} ({outcome})"
        for name, outcome in outcomes.items()
        if outcome == "done" or (refusals is not None and outcome not in refusals)
    ]
