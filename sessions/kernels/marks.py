"""The marks in a cell's stdout, taken out of it: see `kernel_image.kernel.marks`. Pure."""

from collections.abc import Iterator
from typing import Final

from kernel_image import contract

_ID_BYTES: Final = 128


class MarkFinder:
    """Splits stdout, as it comes, into text and the ids of what was published between."""

    def __init__(self, kernel_key: str) -> None:
        self._begin = contract.MARK_BEGIN + contract.mark_token(kernel_key)
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes | str]:
        """Text as bytes, ids as strings, in order; what may be the beginning of a mark waits."""
        data, self._rest = self._rest + data, b""
        while (at := data.find(self._begin)) >= 0:
            begin = at + len(self._begin)
            end = data.find(contract.MARK_END, begin, begin + _ID_BYTES)
            if end < 0 and len(data) < begin + _ID_BYTES:
                break
            if end < 0:
                yield data[:begin]
                data = data[begin:]
                continue
            if at:
                yield data[:at]
            yield data[begin:end].decode("ascii", "replace")
            data = data[end + 1 :]
        at = at if at >= 0 else self._begins_at(data)
        if data[:at]:
            yield data[:at]
        self._rest = data[at:]

    def _begins_at(self, data: bytes) -> int:
        """Where the end of `data` may be the beginning of a mark's beginning."""
        at = data.rfind(contract.MARK_BEGIN, max(0, len(data) - len(self._begin)))
        return at if at >= 0 and self._begin.startswith(data[at:]) else len(data)

    def rest(self) -> bytes:
        """What has waited, when nothing follows."""
        rest, self._rest = self._rest, b""
        return rest
