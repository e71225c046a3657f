"""How long to wait after failed launches."""

from typing import Final

_PAUSES_SEC: Final = (1.0, 2.0, 5.0, 10.0)


class Backoff:
    """The failed launches since the last one that succeeded."""

    def __init__(self) -> None:
        self.problem: str | None = None
        """Why the last launch failed; None if it did not."""
        self._failures = 0

    def failed(self) -> float:
        """Count a failure, and return the seconds to wait before the next launch."""
        pause = _PAUSES_SEC[min(self._failures, len(_PAUSES_SEC) - 1)]
        self._failures += 1
        return pause

    def succeeded(self) -> None:
        """Start again with the shortest pause."""
        self._failures, self.problem = 0, None
