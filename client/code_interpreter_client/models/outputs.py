"""What code has shown: rich outputs, and the text among them."""

import reprlib
from dataclasses import dataclass, field
from typing import Any

from code_interpreter_client.models.images import Image, images_in
from code_interpreter_client.models.untrusted_html import Bundle, display_bundle


@dataclass(frozen=True)
class Output:
    """An output of notebook format 4: a rich one (`display_data`, `execute_result`), or text (`stream`).

    `data` maps media types to content. Text has no data; its `name` is `stdout` or `stderr`.
    """

    output_type: str
    data: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    execution_count: int | None = None
    name: str | None = None
    printed: str = field(default="", metadata={"wire": "text"})

    def __repr__(self) -> str:
        """Return a short form: values are cut, because the base64 of an image fills the screen."""
        data = ", ".join(f"{kind!r}: {reprlib.repr(value)}" for kind, value in self.data.items())
        return f"Output(output_type={self.output_type!r}, data={{{data}}})"

    @property
    def text(self) -> str:
        """The printed text, or the plain text of a rich output; empty if there is none."""
        if self.output_type == "stream":
            return self.printed
        text = self.data.get("text/plain", "")
        return text if isinstance(text, str) else ""

    @property
    def images(self) -> list[Image]:
        """The images, decoded, in the order of `models.images.EXTENSIONS`."""
        return images_in(self.data, self.metadata)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Bundle:
        data = {"text/plain": self.printed} if self.output_type == "stream" else self.data
        return display_bundle(data)
