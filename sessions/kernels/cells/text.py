"""The text of one cell: stdout and stderr, from bytes to events. No I/O."""

import codecs
from collections.abc import Callable
from typing import Final

from kernel_image import contract
from sessions.kernels.cells.cell_end import CellEnd
from sessions.kernels.errors import SupervisorFailed
from sessions.kernels.marks import MarkFinder
from sessions.models import Mark, OutputChunk, Stream

STREAMS: Final[dict[int, Stream]] = {contract.FRAME_STDOUT: "stdout", contract.FRAME_STDERR: "stderr"}
"""Streams by the kind of the frames that carry their bytes."""

_MOST_CHUNKS: Final = 20_000
"""Pieces of text that are passed on as they arrive. Later pieces are gathered to larger ones."""
_MOST_MARKS: Final = 20_000
_GATHERED_CHARACTERS: Final = 1 << 14


class TextCollector:
    """Decodes the text of one cell, takes the marks out of it, and bounds the number of events."""

    def __init__(
        self,
        emit: Callable[[OutputChunk | Mark], None],
        finder: MarkFinder,
        limit_bytes: int,
        *,
        passes_marks: bool,
    ) -> None:
        """`limit_bytes` is the limit for each stream. The marks become events if `passes_marks` is true."""
        self._emit = emit
        self._finder = finder
        self._limit_bytes = limit_bytes
        self._passes_marks = passes_marks
        self._decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in STREAMS}
        self._received = dict.fromkeys(STREAMS, 0)
        self._gathered: dict[int, str] = dict.fromkeys(STREAMS, "")
        self._chunks = 0
        self._marks = 0

    def take(self, kind: int, payload: bytes) -> None:
        """Take the payload of a frame of text.

        Raises:
            SupervisorFailed: the supervisor sends more text than the cell's budget allows.
        """
        self._received[kind] += len(payload)
        if self._received[kind] > self._limit_bytes:
            raise SupervisorFailed("it sent more text than MAX_OUTPUT_BYTES")
        if kind != contract.FRAME_STDOUT:
            self._emit_text(kind, self._decoders[kind].decode(payload))
            return
        for piece in self._finder.feed(payload):
            if isinstance(piece, bytes):
                self._emit_text(kind, self._decoders[kind].decode(piece))
            elif self._passes_marks and self._marks < _MOST_MARKS:
                self._marks += 1
                self._emit_gathered()
                self._emit(Mark(piece))

    def finish(self, end: CellEnd, note: str) -> None:
        """Emit what is left at the cell's end. `note` is a last line for stderr, or empty."""
        stdout = contract.FRAME_STDOUT
        self._emit_text(stdout, self._decoders[stdout].decode(self._finder.rest()))
        for kind in STREAMS:
            if self._is_cut(kind, end):
                self._emit_text(kind, f"\n...[truncated: MAX_OUTPUT_BYTES={self._limit_bytes}]\n")
            else:
                self._emit_text(kind, self._decoders[kind].decode(b"", final=True))
        self._emit_text(contract.FRAME_STDERR, note)
        self._emit_gathered()

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
            self._emit_gathered()

    def _emit_gathered(self) -> None:
        for kind, text in self._gathered.items():
            if text:
                self._emit(OutputChunk(STREAMS[kind], text))
                self._gathered[kind] = ""
