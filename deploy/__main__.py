"""The container's entry point: finds the engine, gives up root, and becomes the service.

    python -m deploy COMMAND [ARGUMENT...]

As root it changes to an ordinary user, with the group of the engine's socket. Without a socket and without
DOCKER_HOST, but with the privileges of `--privileged`, it starts an engine inside the container
(`deploy.nested`). If it is started as another user, the service runs as that user.
"""

import os
import stat
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from deploy import nested
from deploy.user import USER_ID, become, copy_certificates, hand_over

_SYSTEM_SOCKET: Final = Path("/var/run/docker.sock")
_GROUP_MAY_USE: Final = stat.S_IRGRP | stat.S_IWGRP


def main(command: list[str]) -> None:
    """Become `command`, or run it beside an engine and exit with its status."""
    if os.geteuid() == 0:
        hand_over()
        socket = _engine_socket()
        if socket is None and not os.environ.get("DOCKER_HOST") and nested.possible():
            sys.exit(nested.run(command))
        copy_certificates()
        _give_up_root(socket)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"code-interpreter: {command[0]}: {error.strerror}")


def _engine_socket() -> Path | None:
    """Return the path of the engine's socket; None if none was mounted."""
    parts = urlsplit(os.environ.get("DOCKER_HOST") or f"unix://{_SYSTEM_SOCKET}")
    path = Path(parts.path)
    return path if parts.scheme == "unix" and path.is_socket() else None


def _give_up_root(socket: Path | None) -> None:
    if socket is None:
        become(USER_ID, [])
        return
    found = socket.stat()
    if found.st_mode & _GROUP_MAY_USE == _GROUP_MAY_USE:
        become(USER_ID, [found.st_gid])
    else:
        # For instance the socket of a rootless engine, which only root can use in this container.
        sys.stderr.write(f"code-interpreter: only its owner may use {socket}; the service stays root\n")


if __name__ == "__main__":
    main(sys.argv[1:] or ["code-interpreter-api"])
