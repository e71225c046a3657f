"""Types of values in JSON bodies and paths, and the example ids of the OpenAPI document."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt, StrictStr

FILE_ID = "9b2f6c1e-3d55-4d0b-8a49-0c1f5b7a2e64"
SESSION_ID = "3f1d2c4b-8a6e-4f07-9b15-7c2d90e1a5f3"
CELL_ID = "a41c7d0e92b84f6d8f0b5c3e6a7d1928"
EXECUTION_ID = "5f0c8a3e7d1b4c52a6e9d3f0b1c2d4e5"


def _is_text(value: str) -> str:
    """Refuse lone surrogates. JSON can express them, but UTF-8 cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("Text cannot have lone surrogates") from None
    return value


Text = Annotated[StrictStr, AfterValidator(_is_text)]


def _without_nul(what: str) -> AfterValidator:
    """Return a check that a text has no NUL characters; `what` names the text in the error."""

    def check(text: str) -> str:
        if "\0" in text:
            raise ValueError(f"{what} cannot have NUL characters")
        return text

    return AfterValidator(check)


Source = Annotated[Text, _without_nul("Python source")]
ShellCommand = Annotated[Text, _without_nul("A command")]


def _whole(value: object) -> object:
    """Convert a whole float to int, because JSON does not distinguish 2.0 from 2."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integer = Annotated[StrictInt, BeforeValidator(_whole)]

FileId = Annotated[str, Field(description="Id of a stored file.", examples=[FILE_ID])]
SessionId = Annotated[str, Field(description="Id of a session.", examples=[SESSION_ID])]
CellId = Annotated[str, Field(description="Id of a cell.", examples=[CELL_ID])]
