"""Images that code has shown: as bytes, as PIL images, in a notebook, on disk."""

import base64
import binascii
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from code_interpreter_client import bundles

if TYPE_CHECKING:
    import PIL.Image

EXTENSIONS: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/svg+xml": "svg",
}
"""Media types of images, the sharpest first of those a PIL image can be made of."""


@dataclass(frozen=True)
class Image:
    """An image; `file_id` is its file in the service, if it has been stored."""

    media_type: str
    data: bytes
    file_id: str | None = None

    @property
    def extension(self) -> str:
        """Of a file's name, without the dot."""
        return EXTENSIONS.get(self.media_type, "bin")

    def pil(self) -> "PIL.Image.Image":
        """As a PIL image. It needs Pillow: `pip install 'code-interpreter-client[images]'`.

        Raises:
            ImportError: there is no Pillow.
            ValueError: it is no image, or one that Pillow does not read, such as an SVG.
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
            raise ValueError(f"Pillow does not read this {self.media_type}") from error

    def save(self, path: str | Path) -> Path:
        """Write it to a file; gives the file's path."""
        target = Path(path)
        target.write_bytes(self.data)
        return target

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> bundles.Bundle:
        return bundles.of_image(self.media_type, self.data)

    def __repr__(self) -> str:
        return f"Image({self.media_type}, {len(self.data)} bytes)"


def images_in(data: dict[str, Any], metadata: dict[str, Any]) -> list[Image]:
    """The images of a MIME bundle. What is no base64 is none."""
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
