"""Text of untrusted code on a terminal: control sequences that could change the terminal are removed."""

import re
import shutil
import sys
from typing import Final, TextIO

_SEQUENCE: Final = re.compile(
    # CSI; OSC and other strings; shorter sequences
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[0-OQ-WYZ\\`-~])"
)
_BEGINNING: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b\n]*\x1b?|[ -/]*)")
_KEPT: Final = re.compile(r"\x1b\[[\d;:]*[mK]")
_CONTROLS: Final = dict.fromkeys(
    [*range(8), 11, 12, *range(14, 27), *range(28, 32), 0x7F, *range(0x80, 0xA0)], "\ufffd"
)
_MAX_PENDING: Final = 4096
_MAX_SHOWN: Final = 1 << 16


class TerminalText:
    """Cleans one stream of text. Tabs, line ends, `\\b`, colours and erasing to a line's end remain.

    The stream may divide a control sequence. Its beginning is kept until the rest arrives.
    """

    def __init__(self) -> None:
        self._pending = ""

    def clean(self, text: str) -> str:
        """Return the text to show now, after what was kept of the text before."""
        text = self._pending + text
        self._pending = ""
        parts, at = [], 0
        while (start := text.find("\x1b", at)) >= 0:
            parts.append(_plain(text[at:start]))
            at = start + 1
            if sequence := _SEQUENCE.match(text, start):
                at = sequence.end()
                parts.append(sequence.group() if _KEPT.fullmatch(sequence.group()) else "")
            elif len(text) - start <= _MAX_PENDING and _BEGINNING.fullmatch(text, start):
                self._pending = text[start:]
                return "".join(parts)
        return "".join([*parts, _plain(text[at:])])


def _plain(text: str) -> str:
    return text.translate(_CONTROLS)


class Printer:
    """Writes the code's stdout and stderr to this program's. Text for a terminal is cleaned."""

    def __init__(self) -> None:
        self._streams: dict[str, tuple[TextIO, TerminalText | None]] = {
            name: (stream, TerminalText() if stream.isatty() else None)
            for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr))
        }
        self.at_line_start = True
        self._on_terminal = all(stream.isatty() for stream, _ in self._streams.values())
        self._since_clear = ""
        """The end of the text that was shown since it was last removed."""
        self._clears_next = False

    def clear(self, *, wait: bool) -> None:
        """Remove what was written, from a terminal; with `wait`, before the next text. A file keeps it."""
        self._clears_next = wait
        if not wait and self._on_terminal:
            columns, lines = shutil.get_terminal_size()
            rows = sum(len(_KEPT.sub("", line)) // columns + 1 for line in self._since_clear.split("\n")) - 1
            up = f"\x1b[{min(rows, lines - 1)}A" if rows else ""
            sys.stdout.write(f"\r{up}\x1b[J")
            sys.stdout.flush()
            self._since_clear, self.at_line_start = "", True

    def write(self, stream: str, text: str) -> None:
        """Write text and flush it."""
        if self._clears_next and text:
            self.clear(wait=False)
        target, cleaner = self._streams[stream]
        shown = cleaner.clean(text) if cleaner else text
        if self._on_terminal:
            self._since_clear = (self._since_clear + shown)[-_MAX_SHOWN:]
        target.write(shown)
        target.flush()
        if shown:
            self.at_line_start = shown.endswith("\n")


def one_line(text: str) -> str:
    """Return untrusted text, such as a file name, for a table or a message of one line."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
