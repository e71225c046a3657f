"""The text of one cell: stdout and stderr, from bytes to pieces of text. No I/O."""

import codecs
from collections.abc import Callable
from typing import Final

from kernel_image import contract
from sessions.kernels.cells.cell_end import CellEnd
from sessions.kernels.errors import SupervisorFailed
from sessions.models import OutputChunk, Stream

STREAMS: Final[dict[int, Stream]] = {contract.FRAME_STDOUT: "stdout", contract.FRAME_STDERR: "stderr"}
"""Streams by the kind of the frames that carry their bytes."""

_MOST_CHUNKS: Final = 20_000
"""Pieces of text that are passed on as they arrive. Later pieces are gathered to larger ones."""
_GATHERED_CHARACTERS: Final = 1 << 14


class TextCollector:
    """Decodes the text of one cell, and bounds the number of its pieces."""

    def __init__(self, emit: Callable[[OutputChunk], None], limit_bytes: int) -> None:
        """`limit_bytes` is the limit for each stream."""
        self._emit = emit
        self._limit_bytes = limit_bytes
        self._decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in STREAMS}
        self._received = dict.fromkeys(STREAMS, 0)
        self._gathered: dict[int, str] = dict.fromkeys(STREAMS, "")
        self._chunks = 0

    def take(self, kind: int, payload: bytes) -> None:
        """Take the payload of a frame of text.

        Raises:
            SupervisorFailed: the supervisor sends more text than the cell's budget allows.
        """
        self._received[kind] += len(payload)
        if self._received[kind] > self._limit_bytes:
            raise SupervisorFailed("it sent more text than MAX_OUTPUT_BYTES")
        self._emit_text(kind, self._decoders[kind].decode(payload))

    def finish(self, end: CellEnd, note: str) -> None:
        """Emit what is left at the cell's end. `note` is a last line for stderr, or empty."""
        for kind in STREAMS:
            if self._is_cut(kind, end):
                self._emit_text(kind, f"\n...[truncated: MAX_OUTPUT_BYTES={self._limit_bytes}]\n")
            else:
                self._emit_text(kind, self._decoders[kind].decode(b"", final=True))
        self._emit_text(contract.FRAME_STDERR, note)
        self.emit_gathered()

    def truncated(self, end: CellEnd) -> list[Stream]:
        """Return the streams that the supervisor has not sent completely."""
        return [stream for kind, stream in STREAMS.items() if self._is_cut(kind, end)]

    def _is_cut(self, kind: int, end: CellEnd) -> bool:
        return end.written(STREAMS[kind]) > self._received[kind]

    def _emit_text(self, kind: int, text: str) -> None:
        if not text:
            return
        if self._chunks < _MOST_CHUNKS:
            self._chunks += 1
            self._emit(OutputChunk(STREAMS[kind], text))
            return
        self._gathered[kind] += text
        if len(self._gathered[kind]) >= _GATHERED_CHARACTERS:
            self.emit_gathered()

    def emit_gathered(self) -> None:
        """Pass on the text that was gathered so far."""
        for kind, text in self._gathered.items():
            if text:
                self._emit(OutputChunk(STREAMS[kind], text))
                self._gathered[kind] = ""
