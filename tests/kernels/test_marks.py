"""Marks in the text of a cell, which show where a notebook message belongs."""

import itertools
import time

import pytest

from kernel_image import contract
from sessions.kernels.marks import MarkFinder

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
