"""Progress of a pull, from the engine's events. Pure."""

from collections.abc import Mapping
from typing import Any, Final

_MB: Final = 1_000_000
_DONE: Final = frozenset({"Already exists", "Pull complete"})
_DOWNLOADED: Final = frozenset({"Verifying Checksum", "Download complete", "Extracting"}) | _DONE


class PullProgress:
    """Sums up the layers that the events report. `str()` gives the progress as text."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        self._done: set[str] = set()

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in one event. Ignore events that are not about a layer."""
        layer, status = event.get("id"), event.get("status")
        if not isinstance(layer, str) or not isinstance(status, str) or status.startswith("Pulling from"):
            return
        got, size = self._layers.get(layer, (0, 0))
        detail = event.get("progressDetail") or {}
        if status == "Downloading":
            got, size = int(detail.get("current") or got), int(detail.get("total") or size)
        elif status in _DOWNLOADED:
            got = size
        self._layers[layer] = got, size
        if status in _DONE:
            self._done.add(layer)

    def __str__(self) -> str:
        got = sum(got for got, _ in self._layers.values())
        size = sum(size for _, size in self._layers.values())
        return f"{got / _MB:.0f} of {size / _MB:.0f} MB, {len(self._done)} of {len(self._layers)} layers"
