"""What a kernel tells about code that is being written: completions and descriptions. Pure: no I/O.

Both come from the user's side, where objects complete and describe themselves: whatever is not as agreed,
or too much, is left out.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from sessions.kernels.plain_json import whole_number
from sessions.models import JsonObject

_MATCHES: Final = 1000
_MATCH_CHARACTERS: Final = 1000
_TEXT_CHARACTERS: Final = 1 << 18
_MIME_CHARACTERS: Final = 100
_REPRESENTATIONS: Final = 10

Detail = Literal[0, 1]
"""1: with the source, as `name??` shows it."""


@dataclass(frozen=True)
class Question:
    """`code` with the cursor before its character `cursor_pos`; for an inspection with its `detail`."""

    code: str
    cursor_pos: int
    detail: Detail | None = None

    @property
    def kind(self) -> Literal["complete", "inspect"]:
        return "complete" if self.detail is None else "inspect"

    @property
    def content(self) -> JsonObject:
        """The content of the kernel message `{kind}_request`."""
        content: JsonObject = {"code": self.code, "cursor_pos": self.cursor_pos}
        return content if self.detail is None else content | {"detail_level": self.detail}


@dataclass(frozen=True)
class Completion:
    """What may stand in place of the characters from `cursor_start` to `cursor_end`."""

    matches: tuple[str, ...]
    cursor_start: int
    cursor_end: int

    @classmethod
    def of(cls, reply: JsonObject, question: Question) -> "Completion":
        """From a complete_reply; without matches if that makes no sense."""
        found = reply.get("matches")
        start, end = whole_number(reply.get("cursor_start")), whole_number(reply.get("cursor_end"))
        if not isinstance(found, list) or start is None or end is None:
            return cls((), question.cursor_pos, question.cursor_pos)
        matches = (match for match in found if isinstance(match, str) and len(match) <= _MATCH_CHARACTERS)
        end = min(end, len(question.code))
        return cls(tuple(islice(matches, _MATCHES)), min(start, end), end)


@dataclass(frozen=True)
class Inspection:
    """What is known of the name at the cursor, as text by media type; empty if nothing is."""

    data: dict[str, str]

    @classmethod
    def of(cls, reply: JsonObject) -> "Inspection":
        """From an inspect_reply."""
        data = reply.get("data")
        texts = data.items() if isinstance(data, dict) and reply.get("found") is True else ()
        kept = {
            mime: text[:_TEXT_CHARACTERS]
            for mime, text in texts
            if isinstance(text, str) and len(mime) <= _MIME_CHARACTERS
        }
        return cls(dict(islice(kept.items(), _REPRESENTATIONS)))
