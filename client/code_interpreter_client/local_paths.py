"""Paths on this machine for files whose names come from untrusted code."""

from pathlib import Path, PurePosixPath, PureWindowsPath


def path_beneath(folder: Path, path: str) -> Path:
    """Return the path `path` beneath `folder`, and create the folders that lead to it.

    Raises:
        ValueError: the path leads out of the folder, by itself or through a link.
        OSError: a folder cannot be created.
    """
    windows = PureWindowsPath(path)
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or windows.drive or windows.root or ".." in (*parts, *windows.parts):
        raise ValueError(f"The path {path!r} leads out of {folder}")
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.parent.resolve().is_relative_to(folder.resolve()) or target.is_symlink():
        raise ValueError(f"The path {path!r} leads out of {folder} through a link")
    return target
