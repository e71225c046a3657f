"""Events of the pool, for the metrics: containers that are launched, scrubbed and removed."""

from enum import StrEnum
from typing import Protocol


class Removal(StrEnum):
    """Why a container is removed."""

    USED = "used"
    """The container has served, and must not serve again."""
    NOT_CLEAN = "not_clean"
    """The supervisor could not prove that the container is as new."""
    SESSION_ENDED = "session_ended"
    LOST = "lost"
    """The container does not answer."""
    SURPLUS = "surplus"
    """More sandboxes were ready than are wanted, or new kernels have more modules preloaded than its own."""
    GAVE_WAY = "gave_way"
    """The container was reserved for one tenant while callers of other tenants waited."""
    OUTDATED = "outdated"
    """The image's name stands for another image now."""
    LEFTOVER = "leftover"
    """No session and no call owns the container; an earlier run of the service may have left it."""
    STOPPING = "stopping"
    """The service is stopping."""


class Scrub(StrEnum):
    """Result of making a container as new."""

    CLEAN = "clean"
    DOUBTFUL = "doubtful"
    """The supervisor could not prove that the container is as new."""
    FAILED = "failed"
    """The supervisor did not answer, or sent an invalid response."""


class PoolObserver(Protocol):
    """Receives the events. Methods return at once, and never raise."""

    def launched(self, container_sec: float, kernel_sec: float) -> None:
        """Called after a launch, with the seconds until the container ran, and then until its kernel did."""

    def launch_failed(self) -> None:
        """Called when a launch failed."""

    def removed(self, why: Removal) -> None:
        """Called when a container was removed."""

    def scrubbed(self, result: Scrub, seconds: float) -> None:
        """Called when a scrub has ended. `seconds` is its duration."""


class NoObserver:
    """A `PoolObserver` that does nothing."""

    def launched(self, container_sec: float, kernel_sec: float) -> None:
        pass

    def launch_failed(self) -> None:
        pass

    def removed(self, why: Removal) -> None:
        pass

    def scrubbed(self, result: Scrub, seconds: float) -> None:
        pass
