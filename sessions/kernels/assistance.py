"""Help with code that is being written: completions, and descriptions of names. No I/O.

Objects of user code complete and describe themselves. So values of an unexpected type are left out, and the
number and the size of the others are limited.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from sessions.kernels.plain_json import whole_number
from sessions.models import JsonObject

_MOST_MATCHES: Final = 1000
_MATCH_CHARACTERS: Final = 1000
_TEXT_CHARACTERS: Final = 1 << 18
_MIME_CHARACTERS: Final = 100
_MOST_MEDIA_TYPES: Final = 10

Detail = Literal[0, 1]
"""1 adds the source code, as `name??` does in IPython."""


@dataclass(frozen=True)
class Question:
    """A question about `code`, with the cursor before its character `cursor_pos`.

    Without `detail` it asks for completions, with `detail` for a description of the name at the cursor.
    """

    code: str
    cursor_pos: int
    detail: Detail | None = None

    @property
    def kind(self) -> Literal["complete", "inspect"]:
        """The kernel message that asks it, without `_request`."""
        return "complete" if self.detail is None else "inspect"

    @property
    def content(self) -> JsonObject:
        """The content of the kernel message `{kind}_request`."""
        content: JsonObject = {"code": self.code, "cursor_pos": self.cursor_pos}
        return content if self.detail is None else content | {"detail_level": self.detail}


@dataclass(frozen=True)
class Completion:
    """Texts that may replace the characters from `cursor_start` to `cursor_end`."""

    matches: tuple[str, ...]
    cursor_start: int
    cursor_end: int

    @classmethod
    def of(cls, reply: JsonObject, question: Question) -> "Completion":
        """Return the completion in a `complete_reply`; one without matches if the reply is invalid."""
        found = reply.get("matches")
        start, end = whole_number(reply.get("cursor_start")), whole_number(reply.get("cursor_end"))
        if not isinstance(found, list) or start is None or end is None:
            return cls((), question.cursor_pos, question.cursor_pos)
        matches = (match for match in found if isinstance(match, str) and len(match) <= _MATCH_CHARACTERS)
        end = min(end, len(question.code))
        return cls(tuple(islice(matches, _MOST_MATCHES)), min(start, end), end)


@dataclass(frozen=True)
class Inspection:
    """A description of the name at the cursor: texts by media type. Empty if nothing is known."""

    data: dict[str, str]

    @classmethod
    def of(cls, reply: JsonObject) -> "Inspection":
        """Return the description in an `inspect_reply`."""
        data = reply.get("data")
        texts = data.items() if isinstance(data, dict) and reply.get("found") is True else ()
        kept = {
            mime: text[:_TEXT_CHARACTERS]
            for mime, text in texts
            if isinstance(text, str) and len(mime) <= _MIME_CHARACTERS
        }
        return cls(dict(islice(kept.items(), _MOST_MEDIA_TYPES)))
