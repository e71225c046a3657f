"""Media types of files by their names, the same on every machine."""

import mimetypes
import re

OCTET_STREAM = "application/octet-stream"

_OFFICE = "application/vnd.openxmlformats-officedocument."
# Types of data files that the standard library does not know.
_MORE_TYPES = {
    ".docx": _OFFICE + "wordprocessingml.document",
    ".pptx": _OFFICE + "presentationml.presentation",
    ".xlsx": _OFFICE + "spreadsheetml.sheet",
    ".geojson": "application/geo+json",
    ".gz": "application/gzip",
    ".ipynb": "application/x-ipynb+json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".sqlite3": "application/vnd.sqlite3",
    ".toml": "application/toml",
    ".webp": "image/webp",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}

_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


def _table() -> mimetypes.MimeTypes:
    # A new instance does not read the system's files, which differ between machines.
    table = mimetypes.MimeTypes()
    for suffix, media_type in _MORE_TYPES.items():
        table.add_type(media_type, suffix)
    return table


_TABLE = _table()


def guess_media_type(filename: str) -> str:
    """Return the media type that a file of this name has by convention."""
    media_type, encoding = _TABLE.guess_type(filename.rpartition("/")[2].replace(":", "_"))
    if encoding is not None:
        return "application/gzip" if encoding == "gzip" else OCTET_STREAM
    return media_type or OCTET_STREAM


def clean_media_type(declared: str | None) -> str | None:
    """Return the type and subtype that a client declared; None if they are generic or invalid."""
    media_type = (declared or "").partition(";")[0].strip().lower()
    if media_type == OCTET_STREAM or not _TYPE.fullmatch(media_type):
        return None
    return media_type
