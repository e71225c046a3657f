"""Marks in the text of a cell, which show where a notebook message belongs."""

import itertools
import re
import time

import pytest

from kernel_image import contract
from kernel_image.supervisor.marks import MarkedOutput, MarkFinder

TOKEN = contract.mark_token("key")


def mark(name: str) -> bytes:
    """Return a mark as the kernel writes it."""
    return contract.MARK_BEGIN + TOKEN + name.encode() + contract.MARK_END


def found(*pieces: bytes) -> list[bytes | str]:
    """Return text and marks in order, with adjacent pieces of text joined."""
    finder = MarkFinder("key")
    parts: list[bytes | str] = list(itertools.chain.from_iterable(finder.feed(piece) for piece in pieces))
    parts.append(finder.rest())
    joined: list[bytes | str] = []
    for part in parts:
        if isinstance(part, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += part
        elif part:
            joined.append(part)
    return joined


def test_marks_are_found_wherever_the_text_is_cut() -> None:
    """The text comes in one piece, in two pieces cut at every position, and byte by byte."""
    text = b"a" + mark("1") + mark("2") + b"b\x1ec" + mark("3") + b"d"
    expected = [b"a", "1", "2", b"b\x1ec", "3", b"d"]
    assert found(text) == expected
    assert found(*(text[at : at + 1] for at in range(len(text)))) == expected
    for at in range(len(text)):
        assert found(text[:at], text[at:]) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x1e",
        b"\x1e" * 50,
        b"\x1e" + TOKEN[:5],
        b"\x1e" + TOKEN,
        b"\x1e" + TOKEN + b"x" * 500,
        b"\x1f\x1e\x1f",
    ],
)
def test_text_that_only_begins_like_a_mark_is_kept(text: bytes) -> None:
    """No byte of it is lost."""
    assert b"".join(part for part in found(text) if isinstance(part, bytes)) == text


@pytest.mark.parametrize(
    "unit", [contract.MARK_BEGIN + TOKEN, mark("1"), contract.MARK_BEGIN + TOKEN + b"x" * 200], ids=str
)
def test_text_full_of_marks_takes_linear_time(unit: bytes) -> None:
    """User code can write as many marks as fit into its output. The time is CPU time of this process."""
    began = time.process_time()
    finder = MarkFinder("key")
    pieces = sum(1 for _ in finder.feed(unit * (8_000_000 // len(unit))))
    assert time.process_time() < began + 15, "quadratic handling takes a minute and a half"
    assert pieces


class Written:
    """What a supervisor passes on of the two pipes of a kernel."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, bytes] | bytes] = []
        self.output = MarkedOutput(
            "key", lambda kind, data: self.parts.append((kind, data)), self.parts.append
        )

    def text(self) -> str:
        """Return text of stdout as it is, of stderr in brackets, and ids in angle brackets."""
        return "".join(
            f"<{part.decode()}>"
            if isinstance(part, bytes)
            else (f"[{part[1].decode()}]" if part[0] == contract.FRAME_STDERR else part[1].decode())
            for part in self.parts
        )


@pytest.mark.parametrize("stdout_first", [True, False])
def test_two_pipes_are_put_into_one_order(stdout_first: bool) -> None:
    """Whichever pipe is read first, and however much of it at once."""
    pipes = [
        (contract.FRAME_STDOUT, b"a" + mark("1 x") + b"b" + mark("2 ") + mark("3 y") + b"c"),
        (contract.FRAME_STDERR, b"A" + mark("1 x") + mark("2 ") + b"B" + mark("3 y") + b"C"),
    ]
    if not stdout_first:
        pipes.reverse()
    for step in (1000, 1, 7):
        written = Written()
        for kind, data in pipes:
            for at in range(0, len(data), step):
                written.output.add(kind, data[at : at + step])
        before, between, after = re.split("<[xy]>", written.text().replace("][", ""))
        assert sorted(before) == sorted("a[A]")
        assert between == "b[B]"
        assert sorted(after) == sorted("c[C]")


def test_a_mark_that_is_missing_in_one_pipe_delays_text_to_the_end_of_the_cell_at_most() -> None:
    """User code can close a pipe, or be interrupted between the two marks."""
    written = Written()
    written.output.add(contract.FRAME_STDOUT, b"a" + mark("1 x") + b"b" + mark("2 y") + b"c")
    written.output.add(contract.FRAME_STDERR, b"A" + mark("2 y") + b"B")
    assert written.text() == "a[A]<x>b<y>c[B]"
    written.output.add(contract.FRAME_STDOUT, mark("3 z") + b"d")
    assert "d" not in written.text()
    written.output.flush()
    assert written.text() == "a[A]<x>b<y>c[B]<z>d"


def test_text_that_waits_for_a_forged_mark_is_bounded() -> None:
    """A mebibyte waits, not more. Numbers that no kernel writes are taken out and have no effect."""
    written = Written()
    written.output.add(contract.FRAME_STDOUT, mark("no number") + mark("9" * 100) + mark("7 x"))
    assert written.parts == []
    for _ in range(17):
        written.output.add(contract.FRAME_STDOUT, b"x" * (1 << 16))
    assert sum(len(part[1]) for part in written.parts if isinstance(part, tuple)) >= 1 << 20
