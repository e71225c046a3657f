"""Leaving an image's bytes out of outputs: base64 overflows a model's context, a file id does not."""

from typing import Annotated, Any, Literal

from fastapi import Query

Images = Annotated[
    Literal["inline", "ref"],
    Query(description="`ref` leaves the bytes of images out of `outputs`; their file ids stay."),
]


def refer(output: dict[str, Any]) -> dict[str, Any]:
    """The output without the representations that are stored as files."""
    stored = {
        mime for mime, facts in output["metadata"].items() if isinstance(facts, dict) and "file_id" in facts
    }
    return output | {"data": {mime: value for mime, value in output["data"].items() if mime not in stored}}
