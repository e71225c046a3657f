"""Reading the marks in a cell's stdout. `kernel_image.kernel.marks` writes them. No I/O."""

from collections.abc import Iterator
from typing import Final

from kernel_image import contract

_ID_BYTES: Final = 128


class MarkFinder:
    """Splits stdout into text and the ids of the messages that the kernel published in between."""

    def __init__(self, kernel_key: str) -> None:
        self._begin = contract.MARK_BEGIN + contract.mark_token(kernel_key)
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes | str]:
        """Take the next bytes of stdout; yield text as bytes and ids as strings, in order.

        Bytes that may be the beginning of a mark are kept for the next call, or for `rest`.
        """
        data, self._rest = self._rest + data, b""
        # Only indexes move: user code can write very many marks, and a copy for each would take seconds.
        start = searched = 0
        while (at := data.find(self._begin, searched)) >= 0:
            begin = searched = at + len(self._begin)
            end = data.find(contract.MARK_END, begin, begin + _ID_BYTES)
            if end < 0 and len(data) < begin + _ID_BYTES:
                break
            if end < 0:
                continue
            if at > start:
                yield data[start:at]
            yield data[begin:end].decode("ascii", "replace")
            start = searched = end + 1
        at = at if at >= 0 else self._begins_at(data, start)
        if at > start:
            yield data[start:at]
        self._rest = data[at:]

    def _begins_at(self, data: bytes, start: int) -> int:
        """Return where, from `start` on, `data` ends with a part of a mark's beginning, or its length."""
        at = data.rfind(contract.MARK_BEGIN, max(start, len(data) - len(self._begin)))
        return at if at >= 0 and self._begin.startswith(data[at:]) else len(data)

    def rest(self) -> bytes:
        """Return the bytes that were kept. Called at the end of stdout."""
        rest, self._rest = self._rest, b""
        return rest
