"""The shape in which a caller wants outputs: images as bytes or as file ids, with or without the text."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Query

from sessions.executions.result import FinishedExecution

Images = Annotated[
    Literal["inline", "ref"],
    Query(description="`inline`: `outputs` have the bytes of images. `ref`: they have only the file ids."),
]
Outputs = Annotated[
    Literal["rich", "ordered"],
    Query(
        description="`rich`: `outputs` are the rich outputs. `ordered`: the printed text is among them, as "
        "outputs of the type `stream`, in the order in which all was made. The text of the last line's "
        "value is then left out of the streams, because an output shows the value. `stdout` and `stderr` "
        "stay whole."
    ),
]


@dataclass(frozen=True)
class Shape:
    """The shape that a caller has asked for."""

    refers: bool
    """Whether images are file ids. Base64 would fill the context of a language model."""
    ordered: bool
    """Whether printed text is among the outputs."""

    def outputs(self, finished: FinishedExecution) -> list[dict[str, Any]]:
        """Return the outputs of a finished execution."""
        found = finished.ordered_outputs() if self.ordered else finished.result.outputs
        return [self.output(output) for output in found]

    def output(self, output: dict[str, Any]) -> dict[str, Any]:
        """Return one output, without the representations that are stored as files if images are file ids."""
        if not self.refers or output["output_type"] == "stream":
            return dict(output)
        stored = {
            mime
            for mime, facts in output["metadata"].items()
            if isinstance(facts, dict) and "file_id" in facts
        }
        return output | {
            "data": {mime: value for mime, value in output["data"].items() if mime not in stored}
        }


def _shape(images: Images = "inline", outputs: Outputs = "rich") -> Shape:
    return Shape(refers=images == "ref", ordered=outputs == "ordered")


ShapeDep = Annotated[Shape, Depends(_shape)]
"""The shape that the query of a request asks for."""
