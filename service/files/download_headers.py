"""Headers with which a file leaves: the browser saves it under its name and does not show or run it."""

import re
from typing import Final
from urllib.parse import quote

_FOLDERS: Final = re.compile(r"^.*[/\\]", re.DOTALL)


def download_headers(filename: str) -> dict[str, str]:
    """Return the headers of a download, whatever the file holds."""
    return {
        "Content-Disposition": content_disposition(filename),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }


def content_disposition(filename: str) -> str:
    """Return ``attachment`` with a name (RFC 6266): an ASCII one for old clients, and the exact one.

    Folders are left out, because some clients would save the file there.
    """
    filename = _FOLDERS.sub("", filename)
    if filename in ("", ".", ".."):
        filename = "download"
    plain = "".join(
        character if 32 <= ord(character) < 127 and character not in '"\\%' else "_" for character in filename
    )
    if plain == filename:
        return f'attachment; filename="{plain}"'
    exact = quote(filename, safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"
