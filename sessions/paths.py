"""Which relative paths a caller may stage in the workspace."""

from collections.abc import Iterable

from kernel_image import contract
from sessions.errors import InvalidPath


def check_path(path: str) -> str:
    """Return `path` in its plain form ("./a//b" is "a/b").

    Raises:
        InvalidPath: it is empty, absolute, leaves the workspace, is reserved or too long, or holds a
            control character.
    """
    if not path.strip():
        raise InvalidPath(path, "is empty")
    if path.startswith("/"):
        raise InvalidPath(path, "is absolute; it has to be relative to the workspace")
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise InvalidPath(path, "holds a NUL or another control character")
    if path.endswith(("/", "/.")):
        raise InvalidPath(path, "names a folder")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidPath(path, "has a '..' part")
    if not parts:
        raise InvalidPath(path, "names a folder")
    if len(parts) > contract.MAX_DEPTH:
        raise InvalidPath(path, f"is deeper than {contract.MAX_DEPTH} folders")
    if any(len(part.encode()) > contract.MAX_NAME_BYTES for part in parts):
        raise InvalidPath(path, f"has a name of more than {contract.MAX_NAME_BYTES} bytes")
    plain = "/".join(parts)
    if len(plain.encode()) > contract.MAX_PATH_BYTES:
        raise InvalidPath(path, f"is longer than {contract.MAX_PATH_BYTES} bytes")
    if plain in contract.RESERVED_PATHS:
        raise InvalidPath(path, "is reserved")
    return plain


def check_paths(paths: Iterable[str]) -> list[str]:
    """Check each path, and that they can all be there together.

    Raises:
        InvalidPath: as `check_path`, or two are the same, or one would be a folder of another.
    """
    plain = [check_path(path) for path in paths]
    files: set[str] = set()
    for path in plain:
        if path in files:
            raise InvalidPath(path, "is given more than once")
        files.add(path)
    for path in plain:
        parts = path.split("/")
        for end in range(1, len(parts)):
            folder = "/".join(parts[:end])
            if folder in files:
                raise InvalidPath(path, f"needs {folder!r} to be a folder, but that is a file")
    return plain
