"""Where files that code has named go on this machine: the code may name them to its liking."""

from pathlib import Path, PurePosixPath, PureWindowsPath


def place_beneath(folder: Path, path: str) -> Path:
    """The file of that path beneath `folder`; the folders on its way are made.

    Raises:
        ValueError: the path leads out of the folder, by itself or by a link that is there.
        OSError: a folder cannot be made.
    """
    windows = PureWindowsPath(path)
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or windows.drive or windows.root or ".." in (*parts, *windows.parts):
        raise ValueError(f"The path {path!r} leads out of {folder}")
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.parent.resolve().is_relative_to(folder.resolve()) or target.is_symlink():
        raise ValueError(f"The path {path!r} leads out of {folder}, by a link")
    return target
