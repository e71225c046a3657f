"""A strict reader of server-sent events, which accepts only what every client accepts.

`requests.Response.iter_lines` splits decoded text with `str.splitlines`, which also cuts at U+2028,
U+0085, vertical tab and others. A stream that is pure ASCII and has no carriage return reads the
same in every client; this parser refuses anything else.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

KEEP_ALIVE = b": keep-alive"


@dataclass(frozen=True)
class Event:
    """One event: its type and its decoded data. A keep-alive comment has the type `:`."""

    type: str
    data: dict[str, Any]


def _no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


def strict_json(text: str | bytes) -> Any:
    """Decode JSON as the standard defines it, without NaN and Infinity."""
    return json.loads(text, parse_constant=_no_constant)


def _event(frame: bytes) -> Event:
    if frame == KEEP_ALIVE:
        return Event(":", {})
    assert frame.isascii(), f"not ASCII: {frame[:200]!r}"
    text = frame.decode("ascii")
    assert text.splitlines() == text.split("\n"), f"a line end inside a line: {text[:200]!r}"
    lines = text.split("\n")
    assert len(lines) == 2, f"expected an event line and a data line: {text[:200]!r}"
    assert lines[0].startswith("event: ") and lines[1].startswith("data: "), text[:200]
    data = strict_json(lines[1].removeprefix("data: "))
    assert isinstance(data, dict)
    return Event(lines[0].removeprefix("event: "), data)


def events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Yield each event as soon as its frame is complete; the last frame must be complete too."""
    pending = b""
    for chunk in chunks:
        pending += chunk
        *frames, pending = pending.split(b"\n\n")
        yield from map(_event, frames)
    assert pending == b"", f"the stream ended inside a frame: {pending[:200]!r}"


def text_of(received: Iterable[Event], stream: str) -> str:
    """Return the joined text of the `output` events of one stream, `stdout` or `stderr`."""
    return "".join(
        event.data["data"] for event in received if event.type == "output" and event.data["stream"] == stream
    )


def wait_for_print(received: Iterator[Event], expected: str) -> None:
    """Read events until they have printed `expected`. The text may be split into any number of events."""
    printed = ""
    while printed != expected:
        event = next(received)
        assert event.type == "output", event
        printed += event.data["data"]
        assert expected.startswith(printed), printed
