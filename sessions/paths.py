"""Which relative paths a caller may stage in the workspace."""

from collections.abc import Iterable

from kernel_image import contract
from sessions.errors import InvalidPath


def check_path(path: str) -> str:
    """Return `path` in its plain form ("./a//b" is "a/b").

    Raises:
        InvalidPath: it is empty, absolute, leaves the workspace, is reserved or too long, or can't
            be a file's name.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    plain = "/".join(parts)
    reason = _objection(path, parts) or _objection_to_length(parts, plain)
    if reason is None and plain in contract.RESERVED_PATHS:
        reason = "is reserved"
    if reason is not None:
        raise InvalidPath(path, reason)
    return plain


def _objection(path: str, parts: list[str]) -> str | None:
    """What is wrong with the path as it was given."""
    if not path.strip():
        return "is empty"
    if path.startswith("/"):
        return "is absolute; it has to be relative to the workspace"
    if "\0" in path:
        return "holds a NUL character"
    if ".." in parts:
        return "has a '..' part"
    if not parts or path.endswith(("/", "/.")):
        return "names a folder"
    return None


def _objection_to_length(parts: list[str], plain: str) -> str | None:
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "can't be encoded as UTF-8"
    if len(parts) > contract.MAX_DEPTH:
        return f"is deeper than {contract.MAX_DEPTH} folders"
    if max(sizes) > contract.MAX_NAME_BYTES:
        return f"has a name of more than {contract.MAX_NAME_BYTES} bytes"
    if len(plain.encode()) > contract.MAX_PATH_BYTES:
        return f"is longer than {contract.MAX_PATH_BYTES} bytes"
    return None


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
