"""Removes the bytes of images from outputs, because base64 would fill the context of a language model."""

from typing import Annotated, Any, Literal

from fastapi import Query

Images = Annotated[
    Literal["inline", "ref"],
    Query(description="`inline`: `outputs` have the bytes of images. `ref`: they have only the file ids."),
]


def refer(output: dict[str, Any]) -> dict[str, Any]:
    """Return an output without the representations that are stored as files."""
    stored = {
        mime for mime, facts in output["metadata"].items() if isinstance(facts, dict) and "file_id" in facts
    }
    return output | {"data": {mime: value for mime, value in output["data"].items() if mime not in stored}}
