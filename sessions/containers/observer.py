"""What the pool tells whoever counts: how containers come and go, and why."""

from enum import StrEnum
from typing import Protocol


class Removal(StrEnum):
    """Why a container is removed."""

    USED = "used"
    """It has served, and is not to serve again."""
    NOT_CLEAN = "not_clean"
    """It could not be made as new without doubt."""
    SESSION_ENDED = "session_ended"
    LOST = "lost"
    """It does not answer any more."""
    SURPLUS = "surplus"
    """More were ready than are wanted, or it was made in a hurry."""
    GAVE_WAY = "gave_way"
    """It was one tenant's, and others waited."""
    OUTDATED = "outdated"
    """Its image is not the one that has the name any more."""
    LEFTOVER = "leftover"
    """Nobody's: of an earlier life of the service, or forgotten."""
    STOPPING = "stopping"
    """The service stops."""


class Scrub(StrEnum):
    """What came of making a container as new."""

    CLEAN = "clean"
    DOUBTFUL = "doubtful"
    """It could not prove it."""
    FAILED = "failed"
    """It did not answer, or not as agreed."""


class PoolObserver(Protocol):
    """Quick, and never raises."""

    def launched(self, container_sec: float, kernel_sec: float) -> None:
        """A container was started in so long, and then a kernel in it."""

    def launch_failed(self) -> None:
        """A container did not come up."""

    def removed(self, why: Removal) -> None:
        """A container was removed."""

    def scrubbed(self, result: Scrub, seconds: float) -> None:
        """A container was, or was not, made as new."""


class NoObserver:
    """A `PoolObserver` that looks away."""

    def launched(self, container_sec: float, kernel_sec: float) -> None:
        pass

    def launch_failed(self) -> None:
        pass

    def removed(self, why: Removal) -> None:
        pass

    def scrubbed(self, result: Scrub, seconds: float) -> None:
        pass
