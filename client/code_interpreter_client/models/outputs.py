"""Rich outputs."""

import reprlib
from dataclasses import dataclass, field
from typing import Any

from code_interpreter_client.models.images import Image, images_in
from code_interpreter_client.models.untrusted_html import Bundle, display_bundle


@dataclass(frozen=True)
class Output:
    """A rich output: `display_data` or `execute_result` of notebook format 4.

    `data` maps media types to content.
    """

    output_type: str
    data: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    execution_count: int | None = None

    def __repr__(self) -> str:
        """Return a short form: values are cut, because the base64 of an image fills the screen."""
        data = ", ".join(f"{kind!r}: {reprlib.repr(value)}" for kind, value in self.data.items())
        return f"Output(output_type={self.output_type!r}, data={{{data}}})"

    @property
    def text(self) -> str:
        """The plain text; empty if there is none."""
        text = self.data.get("text/plain", "")
        return text if isinstance(text, str) else ""

    @property
    def images(self) -> list[Image]:
        """The images, decoded, in the order of `models.images.EXTENSIONS`."""
        return images_in(self.data, self.metadata)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Bundle:
        return display_bundle(self.data)
