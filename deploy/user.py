"""The ordinary user that the service runs as, and the files that root gives to that user."""

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

USER_ID: Final = 10001
"""uid and gid of `interpreter` in the image."""
STORAGE_VARIABLE: Final = "FILE_STORAGE_DIR"
KEY_VARIABLE: Final = "REGISTRY_KEY_FILE"
_REGISTRY: Final = "registry.sqlite3"
_CERTIFICATES_VARIABLE: Final = "DOCKER_CERT_PATH"
_CERTIFICATES: Final = Path("/run/code-interpreter-certificates")


def become(user_id: int, groups: list[int]) -> None:
    """Change to a user id, the group of the same number, and more groups. This cannot be undone."""
    os.setgroups(groups)
    os.setgid(user_id)
    os.setuid(user_id)
    os.environ["HOME"] = os.environ.get(STORAGE_VARIABLE) or "/tmp"


def hand_over() -> None:
    """Give the folders of the stored files and of the registry's key to the user."""
    if storage := os.environ.get(STORAGE_VARIABLE):
        folder = Path(storage)
        folder.mkdir(parents=True, exist_ok=True)
        inside = os.listdir(folder)
        if not inside or _REGISTRY in inside:
            _give(folder)
    if key := os.environ.get(KEY_VARIABLE):
        folder = Path(key).parent
        # On a file system that is read-only, the service says what to do, if it needs the file at all.
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        # A folder with other contents, such as /run/secrets, stays as it is.
        if folder.is_dir() and set(os.listdir(folder)) <= {Path(key).name}:
            _give(folder)


def _give(folder: Path) -> None:
    """Make the user the owner of a folder and of everything in it."""
    # Looking at every stored file would take long. An earlier start as another user owns what is on top.
    if all(path.lstat().st_uid == USER_ID for path in (folder, *folder.iterdir())):
        return
    os.chown(folder, USER_ID, -1)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(place, name), USER_ID, -1, follow_symlinks=False)


def copy_certificates() -> None:
    """Copy the TLS keys for the engine, which only root can read, to a folder of the user."""
    given = os.environ.get(_CERTIFICATES_VARIABLE)
    if not given or not Path(given).is_dir():
        return
    shutil.rmtree(_CERTIFICATES, ignore_errors=True)
    try:
        _CERTIFICATES.mkdir(mode=0o700)
    except OSError as error:
        sys.exit(
            f"code-interpreter: the engine's keys cannot be copied to {_CERTIFICATES} for the service: "
            f"{error.strerror}; with --read-only, add --tmpfs /run"
        )
    for name in ("ca.pem", "cert.pem", "key.pem"):
        source = Path(given, name)
        if source.is_file():
            shutil.copyfile(source, _CERTIFICATES / name)
            os.chmod(_CERTIFICATES / name, 0o400)
            os.chown(_CERTIFICATES / name, USER_ID, USER_ID)
    os.chown(_CERTIFICATES, USER_ID, USER_ID)
    os.environ[_CERTIFICATES_VARIABLE] = str(_CERTIFICATES)
