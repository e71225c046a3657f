"""Images that code displayed: as bytes, as PIL images, in a notebook, on disk."""

import base64
import binascii
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from code_interpreter_client.models.untrusted_html import Bundle, image_bundle

if TYPE_CHECKING:
    import PIL.Image

EXTENSIONS: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/svg+xml": "svg",
}
"""File extensions of the media types of images; the type that a PIL image is best made of comes first."""


@dataclass(frozen=True)
class Image:
    """An image. `file_id` is the id of its file in the service, or None if it is not stored."""

    media_type: str
    data: bytes = field(repr=False)
    file_id: str | None = None

    @property
    def extension(self) -> str:
        """The extension for a file name, without the dot."""
        return EXTENSIONS.get(self.media_type, "bin")

    def pil(self) -> "PIL.Image.Image":
        """Return it as a PIL image. This needs Pillow: `pip install 'code-interpreter-client[images]'`.

        Raises:
            ImportError: Pillow is not installed.
            ValueError: the data is not an image, or of a type that Pillow cannot read, such as SVG.
        """
        try:
            import PIL.Image  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(
                "PIL images need Pillow: pip install 'code-interpreter-client[images]'"
            ) from error
        try:
            return PIL.Image.open(io.BytesIO(self.data))
        except PIL.UnidentifiedImageError as error:
            raise ValueError(f"Pillow cannot read this {self.media_type}") from error

    def save(self, path: str | Path) -> Path:
        """Write it to a file and return the file's path."""
        target = Path(path)
        target.write_bytes(self.data)
        return target

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Bundle:
        return image_bundle(self.media_type, self.data)

    def __repr__(self) -> str:
        return f"Image({self.media_type}, {len(self.data)} bytes)"


def images_in(data: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[Image]:
    """Return the images of a MIME bundle. A value that is not base64 is left out."""
    found = []
    for media_type in EXTENSIONS:
        value = data.get(media_type)
        if not isinstance(value, str):
            continue
        try:
            content = value.encode() if media_type == "image/svg+xml" else base64.b64decode(value)
        except (binascii.Error, ValueError):
            continue
        about = metadata.get(media_type)
        file_id = about.get("file_id") if isinstance(about, dict) else None
        found.append(Image(media_type, content, file_id if isinstance(file_id, str) else None))
    return found
