"""Paths of the API."""

from urllib.parse import quote


def quoted(part: str) -> str:
    """Quote one part of a path. Dots are quoted where they would mean a folder, as in `..`."""
    return quote(part, safe="") if part.strip(".") else part.replace(".", "%2E")


def stored_file(file_id: str) -> str:
    """Return the path of a stored file."""
    return f"v1/files/{quoted(file_id)}"


def session(session_id: str) -> str:
    """Return the path of a session."""
    return f"v1/sessions/{quoted(session_id)}"


def workspace_file(session_id: str, path: str) -> str:
    """Return the path of a file in a session's workspace."""
    return f"{session(session_id)}/files/{'/'.join(quoted(part) for part in path.split('/'))}"
